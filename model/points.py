"""Interest points, the cheap form: key phrases of a newcomer's own text, straight from its words.

A phrase is what stands between function words and punctuation, as in RAKE (Rose et al., "Automatic Keyword Extraction
from Individual Documents", 2010), for Latin and similar scripts; for Chinese, what stands between punctuation and
function characters. This module knows no model, no other text and no user.
"""

from __future__ import annotations

import re
from typing import Final

MAX_POINTS: Final = 5
MAX_CHARACTERS: Final = 60
READ_CHARACTERS: Final = 400
"""How much of a text is read: what people care about stands early, and time stays bounded whatever the length."""
MAX_WORDS: Final = 4

_STOP_WORDS: Final = """
    a about above actually after again all almost already also although always am an and another any anybody
    anyone anything are aren't around as at back be became because become been before being best better between
    big both but by came can can't cannot come could couldn't did didn't do does doesn't doing don't done down
    during each either else enough especially etc even ever every everyone everything far feel felt few find first
    for found from full gave get gets getting give given go goes going gone good got great had has hasn't have
    haven't having he he's hello her here hers hi him his how however i i'd i'll i'm i've if in instead into is
    isn't it it's its itself just keep kind know last least less let let's like likely little long look looking
    lot lots made make makes many may maybe me mean might mine more most much must my myself need never new next
    nice no nobody non none nor not nothing now of off often oh ok old on once one ones only or other others
    otherwise our ours out over own people perhaps please pretty probably put quite rather read really right said
    same saw say says see seem seems seen several shall she she's should shouldn't show since so some somebody
    someone something sometimes soon still such sure take taken tell than thank thanks that that's the their
    theirs them then there there's these they they're thing things think this those though thought through thus
    time to together told too took tried try trying two under until up upon us use used useful using usually very
    via want wanted wants was wasn't way we we're we've well went were weren't what what's when where whether
    which while who whole whom whose why will wish with within without won't wonder wondering work works worth
    would wouldn't year years yes yet you you'd you'll you're you've your yours yourself
"""
_STOP: Final = frozenset(form for word in _STOP_WORDS.split() for form in (word, word.capitalize(), word.upper()))
_ENDS: Final = str.maketrans(dict.fromkeys('.,;:!?()[]{}<>"`~@$%^&*=|\\/_', "\n"))
_ANY: Final = re.compile(r"[\u3400-\u9fff]+|[^\W_\u3400-\u9fff](?:[^\W\u3400-\u9fff]|['’+#-])*|[^\w\s]")
_CHINESE: Final = re.compile(r"[\u3400-\u9fff]")
_CHINESE_CUT: Final = re.compile(
    "[的了在是我你您他她它们这那哪和与跟就都而且及或也很太更最着过吗呢吧啊呀嘛哦把被让给从但却还又再才并等每]"
    "|什么|怎么|如果|因为|所以|可以|可能|已经|没有|不是|非常|一个|一些|一下|有点|觉得|感觉|真的|时候|现在"
)
_CHINESE_LENGTHS: Final = range(2, 11)


def is_chinese(text: str) -> bool:
    """Whether to speak Chinese to whoever wrote this text."""
    return not text.isascii() and _CHINESE.search(text, 0, READ_CHARACTERS) is not None


def points(text: str) -> list[str]:
    """At most 5 phrases of a cleaned text, of at most 60 characters each, as they are written there, best first.

    Longer phrases (up to three words) and repeated ones come first, then the earlier ones.
    """
    text = text[:READ_CHARACTERS]
    found = _clauses(text.translate(_ENDS).split("\n")) if text.isascii() else _mixed(text)
    worth: dict[str, int] = {}
    written: dict[str, str] = {}
    for words in found:
        length = len(words)
        phrase = " ".join(words if length <= MAX_WORDS else words[:MAX_WORDS]).strip("'-")
        if len(phrase) > MAX_CHARACTERS or (_says_nothing(words[0]) and _says_nothing(words[-1])):
            continue
        key = phrase.lower()
        if key in worth:
            worth[key] += min(length, 3)
        else:
            worth[key] = min(length, 3)
            written[key] = phrase
    # Sorting is stable, so among equals the earlier one stays first.
    best = sorted(worth, key=worth.__getitem__, reverse=True)
    return [written[key] for key in best[:MAX_POINTS]]


def _says_nothing(word: str) -> bool:
    """Numbers, and Latin words of one or two letters."""
    return word.isdigit() or len(word) < (3 if word.isascii() else 2)


def _clauses(clauses: list[str]) -> list[list[str]]:
    """Runs of words that are not function words, clause by clause."""
    found: list[list[str]] = []
    stop = _STOP
    for clause in clauses:
        run: list[str] = []
        for word in clause.split():
            if word in stop:
                if run:
                    found.append(run)
                    run = []
            else:
                run.append(word)
        if run:
            found.append(run)
    return found


def _mixed(text: str) -> list[list[str]]:
    """Text with other letters than ASCII: Chinese runs are cut on their own and end the phrases beside them."""
    found: list[list[str]] = []
    rest: list[str] = []
    for token in _ANY.findall(text):
        if _CHINESE.match(token):
            found.extend(_clauses([" ".join(rest)]))
            rest = []
            found.extend([piece] for piece in _CHINESE_CUT.split(token) if len(piece) in _CHINESE_LENGTHS)
        elif token[0].isalnum():
            rest.append(token)
        else:
            found.extend(_clauses([" ".join(rest)]))
            rest = []
    return found + _clauses([" ".join(rest)])
