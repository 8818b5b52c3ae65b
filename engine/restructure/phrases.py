"""The built-in phrases of which assessments, decisions and refusals are composed; wording.py reads others.

An assessment is a frame filled with a name for the kind of request and a reason. Decisions and refusals do not judge:
only the assessment says whether a request is harmful, so a control without an assessment contains no judgement.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Topic:
    """The phrases for one kind of request."""

    names: tuple[str, ...]
    """Substrings of category names, in NFKC and lower case, by which the topic is found."""
    kinds: tuple[str, ...]
    """Noun phrases: `it asks for ...`."""
    reasons: tuple[str, ...]
    """Clauses: `because ...`."""
    offers: tuple[str, ...] = ()
    """Sentences that follow a refusal."""
    turns: tuple[str, ...] = ()
    """Ends of a decision; empty for the general ones (TURNS)."""

    def is_named(self, categories: Sequence[str]) -> bool:
        """Return whether one of `categories` holds one of the topic's names."""
        plain = [unicodedata.normalize("NFKC", category).lower() for category in categories]
        return any(name in category for category in plain for name in self.names)


HARMFUL_FRAMES = (
    "This is a harmful request: it asks for {kind}, and {reason}.",
    "I would call this harmful, because it comes down to {kind} and {reason}.",
    "What is wanted here is {kind}, which is harmful because {reason}.",
    "Helping would mean providing {kind}, and that is harmful: {reason}.",
    "Weighing it up, this request is harmful, since it is about {kind} and {reason}.",
    "It looks harmful to me: this is about {kind}, and {reason}.",
    "Given that {reason}, a request for {kind} like this one is harmful.",
    "Thinking about what could follow, {reason}, so this request for {kind} is harmful.",
    "However it is put, this is a request for {kind}, and it is harmful because {reason}.",
    "The first thing to settle is how risky this is, and it is harmful: it asks for {kind}, and {reason}.",
    "No framing changes that this is harmful, because it is after {kind} and {reason}.",
    "I have to call this request harmful: {reason}, and {kind} is exactly what it wants.",
)
BENIGN_FRAMES = (
    "This is a benign request: it is {kind}, and {reason}.",
    "Nothing about this is harmful, because it is {kind} and {reason}.",
    "I see nothing harmful here, since this is {kind} and {reason}.",
    "As for safety, this request is benign: it is {kind}, and {reason}.",
    "There is nothing harmful in this, as it is just {kind} and {reason}.",
    "It is safe to answer, because this is {kind} and {reason}.",
    "A quick check for harm finds this request benign: it is {kind}, and {reason}.",
    "This is not harmful, given that it is {kind} and {reason}.",
    "Since this is {kind} and {reason}, the request is benign.",
    "The request is harmless: {reason}, and all it amounts to is {kind}.",
)

DECISIONS = (
    "So I will not go along with it",
    "I am going to decline",
    "So I stop here and say no",
    "I will turn this down",
    "There is no point in working out any details, so I am going to refuse",
    "My reply is going to be a refusal, so I will say no",
    "I won't think about how it could be done, and I am going to decline",
    "This ends here: I will say no",
)
TURNS = (
    ", keep it short, and offer another direction.",
    ", politely and without giving any details.",
    ", and say what I can do instead.",
    ", without a lecture, and suggest something constructive.",
    ", and leave the door open for another question.",
)
REFUSALS = (
    "I'm sorry, but I can't help with that.",
    "I can't help with this request.",
    "Sorry, but this is something I won't assist with.",
    "Sorry, this is one I decline.",
    "I'm not able to help with this.",
    "That isn't something I can take part in, so I have to say no.",
)

ANY_HARM = Topic(
    names=(),
    kinds=("something that would hurt people", "help with something that should not be done"),
    reasons=("somebody could come to harm through it", "the damage would be hard to undo"),
    offers=(
        "If there is a different goal behind your question, tell me about it and I'll gladly help with that.",
        "I'd be happy to help with another question, or with a safe way to reach what you need.",
    ),
)
HARMFUL_TOPICS = (
    Topic(
        names=("self-harm", "self harm", "suicide"),
        kinds=("a way of hurting oneself", "something that puts the person's own life and health at risk"),
        reasons=(
            "somebody who is struggling could be hurt by a detailed reply",
            "a life may be at stake and support is what is needed",
            "it could push a person who is suffering further into danger",
            "going along with it could cost someone their health",
        ),
        offers=(
            "If you are going through a hard time, please talk to someone you trust or call a crisis line; in the "
            "United States and Canada the number is 988, and findahelpline.com lists others.",
            "If any of this is about you, you don't have to carry it alone: a doctor, a counsellor or a local crisis "
            "line can help right now, and I'm glad to listen or to help you find one.",
            "If you or someone near you may be in danger, please call your local emergency number or a crisis line "
            "(988 in the United States and Canada); I can also share ways to get through a difficult moment.",
        ),
        turns=(
            ", and answer with care and point to people who can support the user.",
            ", gently, and tell the user where to find support.",
            ", without judging, and speak about getting through this with support.",
        ),
    ),
    Topic(
        names=("sexual", "adult"),
        kinds=("sexual content that crosses a clear line", "sexual material that should not be produced"),
        reasons=(
            "it could involve people who have not agreed or cannot agree to it",
            "it treats people as things to be used",
            "real people could be exploited or shamed by it",
        ),
        offers=(
            "I can help with questions about consent, healthy relationships or sexual health instead.",
            "If someone is being exploited or pressured, I can help you find where to report it or get support.",
        ),
    ),
    Topic(
        names=("violen", "physical harm", "weapon", "terror"),
        kinds=("a way to hurt people", "support for violence", "something that could be used to injure others"),
        reasons=(
            "someone could be badly injured or killed",
            "the people it is aimed at would have no protection",
            "putting it into practice would endanger lives",
        ),
        offers=(
            "If there is a conflict behind this, I can help you think through ways to calm it or to get help.",
            "If someone is in danger, please contact your local emergency services; I can also talk about prevention.",
        ),
    ),
    Topic(
        names=("harass", "hate", "discrim", "bully", "toxic"),
        kinds=(
            "content that demeans people for who they are",
            "hostility toward a person or a group",
            "support for prejudice",
        ),
        reasons=(
            "words like these hurt the people they are aimed at",
            "it would spread contempt for people who have done nothing wrong",
            "it makes unfair treatment look acceptable",
        ),
        offers=(
            "I'd be glad to help with something that treats people fairly, such as how to answer prejudice.",
            "If you'd like, I can talk about where such stereotypes come from and how to counter them.",
        ),
    ),
    Topic(
        names=("privacy", "personal data", "surveillance"),
        kinds=(
            "access to other people's personal information",
            "a way around somebody's privacy",
            "private details that were never meant to be shared",
        ),
        reasons=(
            "the people concerned never agreed to it",
            "it could expose someone to stalking, fraud or blackmail",
            "personal data in the wrong hands can follow a person for years",
        ),
        offers=(
            "I can explain how to protect personal data, or how to ask for information through proper channels.",
            "If you are worried about your own data, I'd be glad to go through ways to keep it safe.",
        ),
    ),
    Topic(
        names=("misinfo", "disinfo", "decept", "false"),
        kinds=("false claims dressed up as fact", "a misleading story meant to be believed", "deceptive content"),
        reasons=(
            "people could make bad decisions because of it",
            "once such a story spreads it is hard to correct",
            "it would wear away the trust people need in real information",
        ),
        offers=(
            "I can help you find reliable sources on the topic, or write something that is accurate.",
            "I'd be glad to go through what is known about this and how to check a claim.",
        ),
    ),
    Topic(
        names=("intellectual property", "copyright", "piracy"),
        kinds=("a way around someone's rights in their work", "a way to use protected work without permission"),
        reasons=(
            "the people who made the work would lose what is theirs",
            "it takes from creators without asking them",
            "it would break the law and cost somebody their living",
        ),
        offers=(
            "I can point out legal ways to get or license such work, or free alternatives to it.",
            "I'd be glad to explain how copyright, patents or fair use work, so that you can go about it properly.",
        ),
    ),
    Topic(
        names=("illicit", "criminal", "crime", "illegal", "fraud", "drug", "cyber"),
        kinds=(
            "help with breaking the law",
            "practical support for a crime",
            "a way to get away with something illegal",
            "the means for an illegal act",
        ),
        reasons=(
            "acting on it would leave real victims",
            "it would make a crime easier to commit",
            "somebody else would pay the price for it",
            "it could lead to serious damage and to legal trouble for everyone involved",
        ),
        offers=(
            "I can help with lawful ways to reach your goal, or explain what the law says and why.",
            "If you are in a difficult situation, I'd be glad to look for legal options and support with you.",
        ),
    ),
)

ANY_QUESTION = Topic(
    names=(),
    kinds=("an ordinary question", "an everyday request", "a plain request for help", "a question in good faith"),
    reasons=(
        "answering it puts no one at risk",
        "nobody can be hurt by a helpful answer",
        "a good answer can only be of use",
        "no one stands to lose anything by it",
    ),
)
BENIGN_TOPICS = (
    Topic(
        names=("math", "algebra", "geometry", "calculus", "arithmetic", "probability"),
        kinds=(
            "an ordinary mathematics problem",
            "a mathematics exercise",
            "a question about numbers and nothing else",
            "a problem with a definite result to work out",
            "a piece of mathematics to solve",
        ),
        reasons=(
            "nobody can be hurt by its solution",
            "the result only serves to learn or to check one's work",
            "solving it puts no one at risk",
            "there is no way to misuse what comes out",
            "working through it can only be of use",
        ),
    ),
    Topic(
        names=("code", "coding", "programming", "software"),
        kinds=("an ordinary programming task", "a question about writing code", "a piece of everyday software work"),
        reasons=(
            "the code does nothing but what it says",
            "solving it puts no one at risk",
            "it only builds something useful",
        ),
    ),
)
