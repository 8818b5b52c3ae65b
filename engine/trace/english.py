"""The rules for English traces: the wordings by which a sentence understands, assesses, refuses or solves.

The first rule that matches labels the sentence, so the order of the rules carries meaning. A sentence that shapes the
reply is solving, whatever policy it names; one that quotes a policy is an assessment although it says "must refuse";
one that says no is a refusal although it names the harm as the reason; one that calls something illegal outright is an
assessment although it mentions the user; and a sentence is an assessment for merely mentioning harm only if no earlier
rule matches. The rules were tuned on the development part of the labelled sentences; their precision and recall on the
other part are in benchmarks/results/structure.json (benchmarks/validate_structure.py).
"""

from alttrain.engine.trace.rule import Patterns
from alttrain.engine.trace.verdicts import VERDICT_BENIGN, VERDICT_HARMFUL

_START = (
    r"^(?:(?:okay|ok|alright|all right|so|hmm+|well|now|wait|first(?:ly)?|but|and|also|then|here|again|therefore"
    r"|next)\b"
    r"[\s,.:\u2026]*+)*"
)
# _START[1:] leaves the anchor out, for patterns that look ahead from the start.
_FIRST = r"(?:^|\.)(?>[^.]*?"
# `{_FIRST}X)[^.]*Y` finds what `X[^.]*Y` finds, in linear time: Y is sought after the first X between two full stops
# only, as what stands after a later X stands after the first too. Searched for as it stands, the second form would
# look through the rest of the sentence after every X.
_SELF = r"(?:i|we|the (?:ai|assistant|model))"
_REPLY = r"(?:(?:my|the|this|our|an?) (?:\w+ ){0,2}(?:response|answer|reply|message|goal|explanation|tone))"
_CANNOT = (
    r"(?:can't|cannot|can not|won't|will not|must not|mustn't|shouldn't|should not|couldn't|may not"
    r"|(?:'m|'re|am|are|is) (?:unable to|not able to|not going to))"
)
SERVE = (
    r"(?:help|assist|provid\w*|comply|shar\w*|giv\w*|answer|fulfil\w*|generat\w*|creat\w*|writ\w*|support|confirm"
    r"|disclos\w*|reveal|engag\w*|offer|produc\w*|do (?:that|this|it)|go along|encourag\w*|facilitat\w*|promot\w*"
    r"|proceed|participat\w*|list|supply|reproduc\w*|tell|explain how|continue)"
)
_POLICY = r"(?:polic(?:y|ies)|guidelines?|(?:section|rule|point)s? \d[\d.]*|safety (?:rules?|instructions?))"
_SAYS = (
    r"(?:says?|states?|mentions?|requires?|emphasi[sz]es?|prohibits?|forbids?|talks? about|specif\w+|covers?|includes?"
    r"|calls for|mandates?|clear(?:ly)?|tells?|applies|outlines?|encourages?|suggests?)"
)
_BAD = (
    r"(?:harm(?:ful|s|ing)?|unsafe|dangerous|unethical|immoral|malicious|unlawful|illegal(?:ly)?|illicit|criminal"
    r"|inappropriate|offensive|hateful|abusive|toxic|exploitative|discriminatory|defamatory|derogatory|fraud\w*"
    r"|(?:a|an) (?:\w+ ){0,2}(?:crime|felony|violation|breach|red flag|offen[cs]e|invasion)|sensitive|private|wrong"
    r"|disrespectful|concerning|serious|problematic|worrying|alarming|troubling|risky|risk|misleading|plagiarism"
    r"|infring\w+|not (?:\w+ )?(?:okay|ok|allowed|permitted|acceptable|right|legal|safe|ethical|appropriate)"
    r"|theft|stealing|pii|against (?:the )?(?:\w+ )?(?:laws?|polic\w+|rules?|guidelines?)|prohibited"
    r"|personal (?:data|info\w*))"
)
_IS = (
    r"(?:is|are|was|were|isn't|aren't|be|being|it's|that's|they're|seems?|sounds?|looks?|feels?|considered|constitutes?"
    r"|involves?|raises?)"
)
_FINE = (
    r"(?:harmless|benign|safe|fine|okay|ok|acceptable|legitimate|legal|lawful|innocent|innocuous|appropriate|allowed"
    r"|permitted|informational|educational|factual|academic)"
)
_WRONGED = r"polic\w+|privacy|rights?|laws?|copyrights?|trademarks?|consent|trust|terms|guidelines?|rules|ip|someone\w*"
_DAMAGE = (
    r"harass\w*|damage|trouble|injur\w+|deaths?|consequences?|accidents?|issues|violence|panic|hurt|danger|legal|loss"
    r"|health|misinformation|discrimination|distress|problems|stereotypes|fear|abuse|suicide|addiction|scams?"
)
_HARM_TOPIC = r"(?:polic\w+|harm|harmful|illegal|criminal|violen\w+|harass\w*|privacy|sensitive|malicious)"
_VIEW = r"(?:consider|check|look|remember|recall|think|review|assess|refer|examin|evaluat)\w*"
_RESPOND = r"(?:respond|answer|handle|approach|address|reply)"

OPENINGS: Patterns = (
    # The first sentence of a trace says what is asked, in any wording ("the user", "we need to", "the problem").
    ("understanding", None, r"^(?:okay|ok|alright|all right)\b[\s,.:]*(?:so,? )?(?:the|this) (?:user|person)\b(?!'s)"),
    (
        "understanding",
        None,
        r"^(?!.*\b(?:polic|guideline))(?:(?:okay|ok|alright|all right|so|first|\d+\.)[\s,:]*+)*(?:i|we)"
        r"(?: need| have(?! to call)| want|'re asked| are asked|'re given| are given)\b",
    ),
    (
        "understanding",
        None,
        r"^(?:(?:okay|ok|alright|so|first|\d+\.)[\s,:]*+)*(?:(?:in order )?to (?:find|determine|solve|compute|calculate"
        r"|evaluate|show|prove|simplify|answer|express|count|maximi[sz]e|minimi[sz]e|factor|convert|rationali[sz]e"
        r"|get|do|make"
        r"|understand|explain)|the (?:problem|question|task)|let's (?:find|determine|solve|compute)|given)\b",
    ),
)
"""Tried on the first sentence that is not a filler, before all other rules."""

SENTENCES: Patterns = (
    # The request is called harmful or benign in so many words.
    (
        "assessment",
        "benign",
        r"^(?!.*(?:\bif\b|\bwhether\b|\?)).*\brequest (?:is |seems |looks )?(?!not\b)(?:\w+ )?(?:benign|harmless)\b",
    ),
    (
        "assessment",
        "harmful",
        r"^(?!.*(?:\bnot\b|n't|\bif\b|\bwhether\b|\?)).*\b(?:(?:call|find|consider) (?:this|it|that)(?: request)?"
        r"|request(?: like this one)? is) (?:\w+ )?harmful\b",
    ),
    ("assessment", "harmful", r"\brequest for\b[^?]*\bis harmful\b"),
    # Preparing to think or to reply.
    (
        "assessment",
        None,
        rf"{_START}(?:{_SELF} )?(?:need|have|want|should) to\b(?>.*?\b{_RESPOND}\b)"
        r"(?>.*?\b(?:while|keep\w*|without violating|follow\w*|adher\w+|comply\w*|within|according|based|given"
        r"|considering|guided)\b)"
        r".*\b(?:polic|guideline|rules|safety)",
    ),
    (
        "other",
        None,
        rf"^(?!.*\b(?:polic|guideline|harm|ethic|legal|safe\b)){_START[1:]}(?:(?:{_SELF}|let me|let's) )?"
        r"(?:(?:need|have|want|should|must|got|ought)\b )?(?:to )?(?:figure out|think|decide|consider|see|work out"
        r"|determine|break)\b"
        r"(?: (?:how|what|best|to|respond|answer|approach|handle|address|reply|say|do|this|it|that|the|user(?:'s)?"
        r"|their|way"
        r"|query|request|question|message|prompt|appropriately|safely|carefully|properly|through|down|about|correctly"
        r"|here"
        r"|step by step|situation))*[.!?\u2026]*$",
    ),
    (
        "other",
        None,
        rf"{_START}(?:that's|this is|it's) (?:an? )?(?:\w+ )?(?:tricky|tough|interesting|good|difficult) (?:one"
        rf"|question|situation|request)\b",
    ),
    # What justifies or shapes the reply.
    (
        "solving",
        None,
        rf"{_START}(?:that way|this way|this approach|this aligns|this (?:keeps|ensures|respects)|instead\b)",
    ),
    (
        "solving",
        None,
        rf"\b{_SELF} (?:also )?(?:(?:need|have|want) to|should|must|can) (?:also )?"
        r"(?:be (?:very )?(?:careful|cautious)|avoid|make sure|ensure|keep in mind)\b(?!.*\bpolic\w+ (?:says?|states?))"
        rf"(?!.*\b{_CANNOT}\b)",
    ),
    (
        "solving",
        None,
        r"(?:n't|not) (?:\w+ )?refuse\b|\b(?:any|no) need to refuse\b|\b(?:instead of|rather than) (?:just |simply "
        r"|outright )?refusing",
    ),
    (
        "assessment",
        None,
        r"\bmake sure (?:my|the) (?:response|answer) (?:complies|follows|adheres"
        "|aligns)\b.*\bsafety polic",
    ),
    # What a policy says of requests like this one.
    (
        "assessment",
        None,
        rf"{_FIRST}\bif\b)[^.]*\b{_SELF} (?:must|should|has to|have to) refuse\b"
        rf"|^(?:\w+,? )?(?:under|in|by) [^,]*\b{_POLICY}\b[^.]*\bthe (?:ai|assistant|model) (?:must|should)\b",
    ),
    (
        "assessment",
        None,
        r"\bpolic(?:y|ies)\b[^.]{0,30}\b(?:relevant|appl(?:y|ies)|comes? into play)\b"
        r"|\bthe (?:main|relevant|key) (?:one|policy)\b[^.]*\bpolicy\b",
    ),
    ("assessment", "harmful", rf"\b(?:it's|it is|that's|is) (?:pretty |very |quite )?(?:clear|obvious)\b.* {_BAD}\b"),
    (
        "assessment",
        None,
        rf"\b{_POLICY}\b[^.]{{0,80}}?\b{_SAYS}\b.*\b(?:must|should|refus\w+|not|n't|decline|prohibit\w*|forbid\w*"
        rf"|generat\w+"
        r"|facilitat\w+)",
    ),
    (
        "assessment",
        None,
        rf"{_START}(?:specifically,? )?(?:under\b.{{0,80}}, )?(?:it|they|that|which)(?: (?:also|clearly|specifically))?"
        rf" (?:says?|states?|mentions?)\b.*\b(?:{_SELF}|must|should|refus\w+)\b",
    ),
    # Refusals.
    (
        "refusal",
        None,
        rf"\b(?:{_SELF}|{_REPLY}|the (?:(?!the )\w+ )*?(?:thing|bet|course of action|response|approach|option|way"
        rf"|answer)(?: here)?"
        r"|it's (?:best|better|safer|important)|best to|let me|let's|by)\b[^.]{0,70}(?=[rdt])\b"
        r"(?:refus(?:e|ing)|declin(?:e|ing)|turn(?:ing)? (?:it|this|them) down)\b",
    ),
    ("refusal", None, rf"\b{_SELF}(?: also| definitely| really| simply| just)? ?{_CANNOT} (?:\w+ ){{0,3}}?{SERVE}\b"),
    ("refusal", None, r"^(?:so,? |therefore,? )*(?:refus(?:e|ing)|declin(?:e|ing))\b"),
    (
        "refusal",
        None,
        rf"\b{_SELF}(?:'ll| will| am going to|'m going to) (?:\w+ )?(?:say no|stop here|not (?:help|go along))",
    ),
    (
        "refusal",
        None,
        r"\b(?:turn this down|not go along with it|this ends here|i stop here|a refusal|case for refusal)\b"
        r"|\b(?:straightforward|polite|clear|firm|simple|brief|short|direct) refusal\b"
        r"|\b(?:refusing|refusal)\b(?: \w+){0,3} (?:is|seems) (?:the|best|right|appropriate)\b",
    ),
    (
        "refusal",
        None,
        rf"\b{_SELF} (?:don't|do not) want to (?:encourage|contribute|promote|enable|facilitate|spread|support|assist"
        rf"|help)\b",
    ),
    ("solving", None, r"\bif there(?:'s| is) (?:a|any|another)(?: \w+)? (?:way|option|alternative)"),
    # Looking up the policies by which the request will be judged.
    (
        "assessment",
        None,
        r"\b(?:consider|think about|check|assess|decide) (?:if|whether) (?:this|that|it|providing|answering|giving"
        r"|sharing"
        r"|helping|the request)\b",
    ),
    ("assessment", None, rf"{_FIRST}\b{_VIEW}\b)[^.]*\b{_POLICY}(?![\w']* of refusing)"),
    # What the user means by the request.
    (
        "understanding",
        None,
        r"\b(?:implies|suggests|means|indicates|it's clear|seems clear)(?: that)? (?:they|the user)(?:'re|'s| are| is)?"
        r" (?:want|consider|look|try|ask|seek|interest)\w*",
    ),
    ("understanding", None, rf"{_START}(?:maybe|perhaps|possibly) (?:the user|they)\b(?! should| could| can| need)"),
    (
        "understanding",
        None,
        r"\b(?:consider|think about)(?: \w+){0,2}? (?:the |their )?(?:user's )?(?:intent\w*"
        r"|motiv\w+)\b[^.]{0,15}\W*$",
    ),
    # Work on the reply.
    (
        "solving",
        None,
        r"\b(?:it's|it is) (?:also )?(?:important|crucial|good|best|helpful|better) to (?:also )?(?:highlight"
        r"|emphasi[sz]e|mention"
        r"|note|provide|explain|include|acknowledge|address|offer|suggest|guide|advise|recommend|encourage|show"
        r"|present|stress)\b",
    ),
    ("solving", None, r"^(?:\w+,? )?(?:putting (?:it|this|that|everything)(?: all)? together|in summary|overall)\b"),
    ("solving", None, rf"\b(?:{_REPLY}|it) (?:should|needs? to|must|has to)\b"),
    (
        "solving",
        None,
        rf"\b{_SELF}(?:'ll| will| should| could| can| might| need to| must| want to| would|'d)"
        r"(?: also| probably| definitely| perhaps| maybe| then| just| start| likely)*(?: by)?(?: start\w*)? "
        r"(?:provid\w+|offer|suggest\w*|mention|explain\w*|includ\w+|outlin\w+|list|advis\w+|emphasi\w+|acknowledg\w+"
        r"|encourag\w+|guid\w+|redirect|focus|structur\w+|start|highlight|keep|give|point|direct|express|recommend|be"
        r"|discuss|check if|see if|end|craft|present|frame|phrase|summari[sz]e|steer|help|use|add|talk|describ\w+"
        r"|clarify"
        r"|note)\b",
    ),
    # Outright verdicts.
    ("assessment", "benign", r"\bn't see any (?:issues?|problems?|violations?|concerns?|harm)\b"),
    (
        "assessment",
        "benign",
        r"\b(?:no|not|nothing|neither|never|\w+n't)\b(?! (?:just|only|want|sure))(?:(?!\b(?:without|way|just"
        r"|only)\b)[^.,]){0,40}?"
        rf"(?=[vfrica])\b(?:violat\w+|fall(?:s|ing)? under|relates? to|involv\w+|intend\w*|issues?|concerns?"
        rf"|ask\w+ for)\b[^.,]{{0,40}}"
        rf"\b{_HARM_TOPIC}\b",
    ),
    (
        "assessment",
        "benign",
        r"\b(?:isn't|aren't|not|nothing|wasn't|doesn't (?:seem|look|sound|appear))"
        r"(?: (?!just|only|always|necessarily|possible|and|but|sure|want|\w+ing\b|encourag|contribut|support|promot"
        r"|provid)\w+){0,3}? (?:harmful|illegal|dangerous|malicious|unethical"
        r"|against (?:the )?(?:polic\w+|rules|guidelines))\b",
    ),
    (
        "assessment",
        "benign",
        r"^(?!.*\b(?:if|whether) (?:it|this|that)).*\b(?:this|that|it|request|question|query|topic|which"
        r"|intent\w*)\b(?: \w+){0,2}? ?(?:is|are|'s|seems?"
        r"|appears?|sounds?|looks?)"
        r"(?: (?:like|perfectly|completely|totally|an?|just|purely|simply|entirely|quite|generally|actually|probably"
        r"|likely"
        rf"|pretty|all|also|to be)){{0,3}} {_FINE}\b(?! (?:to|for) (?:refuse|decline)| concern| risk"
        rf"| issue)(?!.*\bbut\b)",
    ),
    (
        "assessment",
        "harmful",
        rf"{_START}(?:that|this|it|they|there)(?:'s|'re)?(?: \w+){{0,4}}? ?(?:{_IS})?(?: \w+){{0,4}} {_BAD}\b",
    ),
    (
        "assessment",
        "harmful",
        rf"\b(?:which|that|this|it|so|and) (?:\w+ )?(?:{_IS}|would be|could be|might be|can be"
        rf"|may be)(?: \w+){{0,3}} {_BAD}\b",
    ),
    (
        "assessment",
        "harmful",
        rf"{_FIRST}\b(?:falls?|fits?|falling|comes?|crossing)(?: \w+){{0,3}}? (?:into|under|within|in)\b)"
        r"[^.]*\b(?:that|this"
        r"|categor\w+"
        r"|territory|section|polic\w+|harass\w*|hate|discriminat\w+|crim\w+|illegal|illicit|violen\w+|physical|privacy"
        r"|personal|fraud|theft|copyright|intellectual|misinformation|disinformation|sexual|adult|self-harm"
        r"|self harm)\b",
    ),
    (
        "assessment",
        "harmful",
        rf"\b(?:clearly|definitely|obviously|likely|pretty|absolutely|highly|strictly)(?: \w+){{0,2}} {_BAD}\b",
    ),
    (
        "assessment",
        "harmful",
        r"\b(?:would|could|might|may|can|definitely|clearly|likely|potentially|directly)(?: \w+)? (?:(?:violat\w+"
        rf"|breach\w*|infring\w+)\b[^.]*\b(?:{_WRONGED})|break (?:the )?laws?|harm\w*|facilitat\w+|expose"
        rf"|(?:be (?:used|seen|considered)|cause|lead to)\b[^.]*\b(?:{_BAD}|{_DAMAGE}))\b",
    ),
    ("assessment", "harmful", rf"\b(?:would|could|might|may|can) (?:also |still )?be (?:\w+ )?{_BAD}\b"),
    # What is asked.
    (
        "understanding",
        None,
        rf"{_START}(?:{_SELF} (?:need|have|want|'ve got)(?: to)? (?:\w+ )?(?:help|help the user|figure out|address"
        rf"|respond|answer|look"
        r"|understand)\b.*\b)?(?:the |this )?(?:user|person|someone|questioner|they)"
        r"(?:'s (?:query|question|request|message|asking|looking)|'re| (?:is|was|wants?|asks?|asked|seems?|has|had"
        r"|mention\w*"
        r"|said|says|made|didn't|did|isn't|likely|appears?|provided|specif\w+|are|wrote|put|needs?|gave|probably"
        r"|believes?"
        r"|expresse[sd]|sounds?|also|just|(?:might|may|could) (?:be|want|have|not|actually)))\b",
    ),
    (
        "understanding",
        None,
        r"\b(?:suggests|implies|means|indicates|sounds like|makes me think|it's clear|i think)(?: that)? (?:they"
        r"|the user)\b",
    ),
    (
        "understanding",
        None,
        rf"{_START}(?:in this case,? )?(?:{_SELF} )?(?:need|have) to (?:help (?:the user|them) )?(?:figure out"
        rf"|understand|find)"
        r" (?:how|why|what|whether)\b",
    ),
    (
        "understanding",
        None,
        r"\bthe user(?:'s)? (?:(?:is|was) (?:pretty |very |quite )?(?:asking|direct|worried|clear|looking)|wants"
        r"|request|query"
        r"|question is)",
    ),
    (
        "understanding",
        None,
        rf"{_START}(?:the (?:goal|question|request|problem|task|statement|prompt|query)|we are (?:asked|given)"
        r"|we(?: need|'re asked) to (?:find|prove|compute|determine|show|count))\b",
    ),
    (
        "solving",
        None,
        r"^(?:maybe|perhaps|also|alternatively|finally|additionally|for example|next|then),? "
        r"(?:i |we |suggest|offer|mention|provid|includ|point|recommend|by |start|explain|focus|advis)",
    ),
    # Harm or a policy is mentioned, and none of the rules above matched.
    (
        "assessment",
        None,
        rf"{_FIRST}\b(?:{_VIEW}|according to|based on|following|under|go (?:through|over)|aware of|compl(?:y|ies) with"
        rf"|adher\w+)\b)"
        r"[^.]*\b(?:polic(?:y|ies)|guidelines|privacy|ethical|legal(?:ity)?|harm|section)\b",
    ),
    (
        "assessment",
        None,
        rf"{_FIRST}\b(?:is|are|would|could|does|do|should|whether|if) (?:it|this|that|the request|they|there)\b)"
        r"(?>[^.]*?\b(?:harm\w*|safe|legal|illegal|dangerous|violat\w+|allowed|ethical)\b)[^.]*\?",
    ),
    ("assessment", "benign", rf"^(?!.*(?:n't|\b(?:not|without|any|if|whether)\b)).*(?:{VERDICT_BENIGN})"),
    ("assessment", "harmful", rf"^(?!.*\b(?:without \w+ing|avoid\w*|prevent\w*)\b).*(?:{VERDICT_HARMFUL})"),
)
