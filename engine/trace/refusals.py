"""The rules for answers that refuse, in English and Chinese; they are tried on an answer's first sentences only.

They were tuned on the even rows of two sets that people labelled; benchmarks/validate_structure.py names the sets and
measures the rules on the odd rows.
"""

from alttrain.engine.trace import chinese
from alttrain.engine.trace.english import SERVE
from alttrain.engine.trace.rule import Patterns

_SORRY = r"(?:sorry|apologi[sz]e|apologies|regret|unfortunately|afraid)"
_CANNOT = (
    r"(?:can't|cannot|can not|won't|will not|couldn't|must decline|have to decline|must refuse"
    r"|(?:'m|am|are|'re) (?:unable|not able|not comfortable|not allowed|not permitted|not in a position|not going))"
)

ENGLISH: Patterns = (
    (
        "other",
        None,
        r"\b(?:can't|cannot|won't) (?:recommend|stress|emphasi[sz]e|guarantee|help but|wait|imagine|say (?:for sure"
        r"|enough)"
        r"|be sure|overstate|speak for)\b"
        r"|\bsorry (?:for (?:your|the)|you're|you are|to hear|that you)\b(?!.*\bbut\b)",
    ),
    (
        "refusal",
        None,
        rf"^(?:(?:i'm|i am|we're|we are) )?(?:\w+ )?{_SORRY}\b[^.]{{0,60}}\b(?:i|we|this"
        rf"|that) ?(?:\w+ )?{_CANNOT}",
    ),
    ("refusal", None, rf"\b(?:i|we)(?: \w+)? ?{_CANNOT}(?: to)?(?: \w+){{0,3}}? {SERVE}\b"),
    (
        "refusal",
        None,
        r"\b(?:i|we) (?:\w+ )?(?:must|have to|need to|will|am going to|would) (?:\w+ )?(?:decline|refuse|say no)\b"
        r"|\bi (?:decline|refuse)\b|\bi won't\b[^.]*\b(?:assist|help|part)\b",
    ),
    (
        "refusal",
        None,
        r"\b(?:isn't|is not|not) something (?:that )?i (?:can|will|am able|could)\b|\b(?:can't|cannot) take part in\b",
    ),
    (
        "refusal",
        None,
        r"\b(?:i|as an ai)\b[^.]{0,60}\b(?:don't|do not|doesn't) (?:have access|have the (?:ability|capability)"
        r"|support|condone"
        r"|engage in|promote|provide|endorse|share|assist|encourage|participate)\b",
    ),
    (
        "refusal",
        None,
        r"\bas an (?:ai|artificial)\b[^.]{0,200}\b(?:not (?:appropriate|ethical|acceptable|right|accurate or fair)"
        r"|unethical"
        r"|inappropriate|discriminat\w+|respect\w* privacy|programmed|designed to (?:respect|promote|follow"
        r"|provide (?:fair|respectful|unbiased)))",
    ),
    (
        "refusal",
        None,
        r"\b(?:it's|it is) (?:\w+ )?(?:not (?:appropriate|ethical|acceptable|okay|right|legal)|illegal|unethical"
        r"|inappropriate"
        r"|against the law) (?:\w+ )?to\b|\b(?:goes|is|are|be) against (?:my|our|the) (?:\w+ )?(?:guidelines|polic\w+"
        r"|programming"
        r"|use|principles)",
    ),
)

CHINESE: Patterns = (
    (
        "refusal",
        None,
        rf"(?:抱歉|对不起|不好意思|很遗憾)[^。]{{0,30}}(?:{chinese.CANNOT}|拒绝)"
        rf"|(?:我|我们)[^。，]{{0,6}}(?:{chinese.CANNOT}|拒绝)[^。]{{0,10}}{chinese.SERVE}|恕我?(?:不能|无法|难)",
    ),
)
