"""Texts that Google shows to the user of a device: UserFacingMessage of the discovery document."""

import re
from typing import Any

from heliograph.domain.fields import Fields

MAX_MESSAGE = 4096
_LANGUAGE = r"[A-Za-z0-9_-]{1,35}"
_MAX_LANGUAGES = 200


def user_message(
    params: Fields, name: str, *, max_length: int = MAX_MESSAGE, strict: bool = False
) -> dict[str, Any] | None:
    """A member with a default text and translations; lengths in code points. Google needs the default with those.

    `strict` refuses members that are not known.
    """
    message = params.obj(name)
    if message is None:
        return None
    if strict:
        message.only(("defaultMessage", "localizedMessages"))
    default = message.text("defaultMessage", required=message.has("localizedMessages"), max_length=max_length)
    localized = message.obj("localizedMessages")
    kept: dict[str, Any] = {} if default is None else {"defaultMessage": default}
    texts = {}
    if localized is not None and len(localized.raw) > _MAX_LANGUAGES:
        message.wrong("localizedMessages", f"must have at most {_MAX_LANGUAGES} languages")
    elif localized is not None:
        texts = _texts(localized, max_length)
    return kept | ({"localizedMessages": texts} if texts else {})


def _texts(localized: Fields, max_length: int) -> dict[str, str | None]:
    return {
        language: localized.text(language, required=True, max_length=max_length)
        for language in localized.raw
        if _is_language(localized, language)
    }


def _is_language(localized: Fields, language: str) -> bool:
    if re.fullmatch(_LANGUAGE, language):
        return True
    localized.wrong(language[:35], "must be a language such as de or en-US")
    return False
