"""The grammar of objectives: reads `"pix2pix:extended+vgg"` as terms, without asking whether they exist."""

from __future__ import annotations

from nectargan_core._names import Term, read_term, syntax_error


def parse(text: str) -> tuple[Term, ...]:
    """Read the name of an objective.

    The grammar is `term ("+" term)*` with `term := [provider "/"] name [":" variant]`, where each word is one
    or more letters, digits, `_`, `-` and `.`, without blanks.

    Args:
        text: The name, such as `"pix2pix:extended+vgg"`.

    Returns:
        The terms in the order of the text, at least one.

    Raises:
        SpecSyntaxError: The text is not in the grammar; `column` (0 to the length of the text) says where.

    Example:
        >>> [str(term) for term in parse("pix2pix:extended+acme-vgg/vgg")]
        ['pix2pix:extended', 'acme-vgg/vgg']
    """
    terms: list[Term] = []
    column = 0
    while True:
        term, end = read_term(text, column)
        terms.append(term)
        if end == len(text):
            return tuple(terms)
        if text[end] != "+":
            raise syntax_error(text, end, '"+" or the end')
        column = end + 1
