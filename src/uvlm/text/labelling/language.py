"""Whether a text is English at all: the rules know English words for "no" only.

"Kein Emphysem" holds a word that the rules know, and a denial that they do not.
"""

from __future__ import annotations

import re

__all__ = ["is_english", "other_script"]

_READ = 4000
"""Characters that are looked at; enough to tell."""

_WORD = re.compile(r"[^\W\d_]+")
_ENGLISH = (
    "a an and are at both by from has have in is it left no not observed of on or other right seen"
    " that the there these this to was were which with without"
)
_OTHER = (
    # German, French, Spanish, Italian, Portuguese, Dutch, Turkish. Words that English reports hold
    # too ("die", "non", "do") are left out.
    "der das den dem und kein keine keinen keiner nicht mit im ist sind ein eine einer beidseits"
    " links rechts ohne auf bei zeigt"
    " le les des du et pas sans une dans aux est sont deux droit droite gauche ni"
    " el los las del sin con una derecho derecha izquierdo izquierda ambos pulmones"
    " il nel della delle degli si sono destra sinistra polmone polmoni senza nessun nessuna"
    " os da dos sem com uma direito esquerdo pulmão não"
    " het een geen niet beide rechter linker van"
    " ve yok bir ile olarak izlendi izlenmedi izlenmektedir saptanmadı saptanmamıştır mevcut"
    " mevcuttur sağ sağda sol solda normaldir doğaldır iki akciğer akciğerde"
)
_COMMON, _FOREIGN = frozenset(_ENGLISH.split()), frozenset(_OTHER.split())


def is_english(text: str) -> bool:
    """Whether a text holds at least as many common English words as of other languages.

    A text with neither ("Emphysema.") passes; one mostly in another script does not. Words in
    capitals among others are abbreviations ("DES", a stent; "LES", a sphincter), of no language.
    """
    if other_script(text):
        return False
    start = text[:_READ]
    spoken = _WORD.findall(start)
    if not start.isupper():
        spoken = [word for word in spoken if len(word) == 1 or not word.isupper()]
    words = [word.lower() for word in spoken]
    return sum(word in _FOREIGN for word in words) <= sum(word in _COMMON for word in words)


def other_script(text: str) -> bool:
    """Whether more than half of a text's letters are not Latin; accents and Vietnamese are."""
    if text.isascii():
        return False
    letters = [character for character in text[:_READ] if character.isalpha()]
    others = sum(ord(letter) > 0x24F and not 0x1E00 <= ord(letter) < 0x1F00 for letter in letters)
    return 2 * others > len(letters)
