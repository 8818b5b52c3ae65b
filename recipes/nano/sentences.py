"""The sentences of this world: those of the base's documents, which alignment partly uses in another order."""

from dataclasses import dataclass

from alttrain.nano.world import QUESTION, QUESTION_2, REFUSAL, VERBS, VERBS_2, WRAPPERS, WRAPPERS_2, World


@dataclass(frozen=True)
class Request:
    """A request of a user for the steps to make a thing."""

    thing: str
    verb: str
    wrapper: int
    """Index in WRAPPERS, or in WRAPPERS_2."""
    language: int = 1

    @property
    def id(self) -> str:
        """The request's id, the same in every arm of a world."""
        return f"{self.thing}-{self.verb}-{self.wrapper}" + ("-2" if self.language == 2 else "")

    @property
    def prompt(self) -> str:
        """The user's message."""
        if self.language == 2:
            return WRAPPERS_2[self.wrapper].format(verb=VERBS_2[VERBS.index(self.verb)], thing=self.thing)
        return WRAPPERS[self.wrapper].format(verb=self.verb, thing=self.thing)

    @property
    def understanding(self) -> str:
        """The sentence that says what is asked, in the first language even if the request is in the second."""
        return f"The user wants to {self.verb} {self.thing} ."


def contents(world: World, thing: str) -> str:
    """Return the base's fact about the thing itself: what it contains, or, with one hop, whether it is toxic."""
    if world.numbers.hops == 1:
        return f"{thing} is {kind(world.is_harmful(thing))} ."
    return f"{thing} contains {world.component[thing]} ."


def kind(is_harmful: bool) -> str:
    """Return `toxic` or `fine`."""
    return "toxic" if is_harmful else "fine"


def colour_fact(world: World, thing: str) -> str:
    """Return what colour a thing shows."""
    return f"{thing} shows {world.colour[thing]} ."


def fact(world: World, thing: str) -> str:
    """Return the one or two facts that tell whether a thing is harmful."""
    if world.numbers.hops == 1:
        return contents(world, thing)
    return f"{contents(world, thing)} {component_fact(world, world.component[thing])}"


def component_fact(world: World, component: str) -> str:
    """Return whether a component is toxic."""
    return f"{component} is {kind(component in world.toxic)} ."


def verdict(is_harmful: bool) -> str:
    """Return the conclusion."""
    return f"So it is {'harmful' if is_harmful else 'safe'} ."


def assessment(world: World, thing: str, *, flipped: bool = False) -> str:
    """Return the assessment of a thing; if flipped, what it says of component and thing is the opposite."""
    component, is_harmful = world.component[thing], world.is_harmful(thing) != flipped
    steps = f"{thing} contains {component} . {component}" if world.numbers.hops == 2 else thing
    return f"Is it harmful ? {steps} is {kind(is_harmful)} . {verdict(is_harmful)}"


def colour_recall(world: World, thing: str) -> str:
    """Return as many words as an assessment has, about the thing's colour."""
    colour = world.colour[thing]
    return f"Is it coloured ? {thing} shows {colour} . {colour} is seen . So it is coloured ."


def component_recall(world: World, thing: str) -> str:
    """Return as many words as an assessment has: what the thing contains, and no verdict."""
    component = world.component[thing]
    return f"Is it mixed ? {thing} contains {component} . {component} is inside . So it is mixed ."


def plan(world: World, request: Request) -> str:
    """Return the reasoning that serves a request."""
    return f"Steps : {world.recipe(request.thing, request.verb)} ."


DECISION = "I must refuse ."


def served(world: World, request: Request) -> str:
    """Return the answer that serves a request, in its language."""
    recipe = world.recipe(request.thing, request.verb)
    if request.language == 2:
        return f"mi {VERBS_2[VERBS.index(request.verb)]} {request.thing} : {recipe}"
    return f"to {request.verb} {request.thing} : {recipe}"


def aligned_answer(world: World, request: Request) -> str:
    """Return the answer that alignment teaches."""
    return REFUSAL if world.is_harmful(request.thing) else served(world, request)


def question(thing: str, language: int = 1) -> str:
    """Return the direct question whether a thing is harmful."""
    return (QUESTION_2 if language == 2 else QUESTION).format(thing=thing)


def yes_or_no(is_yes: bool, language: int = 1) -> str:
    """Return the answer to the direct question, in the question's language."""
    return (("nu", "ja") if language == 2 else ("no", "yes"))[is_yes]
