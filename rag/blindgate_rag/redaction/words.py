r"""Words that tell what a number beside them is, as sentences, forms, tables and programs write them.

`SSN`, `SSNs`, `the SSN's`, `patient_ssn`, `userSSN`, `phoneNumber`, `"account_number":`: a document is as often an export as a
letter. So a word begins where no letter stands before it, or where small letters end and a capital begins; and it ends likewise,
its plural included. `since` has no `sin` in it, nor has `TELEVISION` a `tel`.
"""

from typing import Final

_BEGINS: Final = r"(?:(?<![A-Za-z])|(?-i:(?<=[a-z])(?=[A-Z])))"
_ENDS: Final = r"(?:'?s)?(?-i:(?![a-z])(?!(?<=[A-Z])[A-Z]))"
JOINED: Final = "[ _-]?"
"""What stands between two of them that make one: `sort code`, `sort_code`, `sortCode`."""


def any_of(words: str) -> str:
    """A pattern of any of some words, for use with `re.IGNORECASE`.

    Args:
        words: a regular expression, alternatives without a group around them.
    """
    return rf"{_BEGINS}(?:{words}){_ENDS}"
