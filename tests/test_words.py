"""How texts are folded, queries read, and hits found: without a server."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from texts import CHARACTERS

from chatapi.words import (
    _TABLE,
    SNIPPET_CHARACTERS,
    _fold_character,
    fold,
    has_all,
    list_words,
    make_excerpt,
    parse_terms,
)


def hits(query: str, content: str) -> list[str] | None:
    """The pieces of the content that are hits; None for a content without them."""
    terms = parse_terms(query)
    assert terms
    excerpt = make_excerpt(content, terms)
    assert has_all(content, terms) is (excerpt is not None)
    if excerpt is None:
        return None
    assert excerpt.text in content
    return [excerpt.text[start:end] for start, end in excerpt.hits]


@pytest.mark.parametrize(
    ("query", "content", "found"),
    [
        ("cafe", "Ein Café au lait", ["Café"]),
        ("CAFÉ", "cafe\u0301!", ["cafe\u0301"]),
        ("strasse", "Die STRAßE", ["STRAßE"]),
        ("lodz oslo", "Łódź, Ōslo", ["Łódź", "Ōslo"]),
        ("istanbul", "İSTANBUL", ["İSTANBUL"]),
        ("σοφος", "ΣΟΦΌΣ!", ["ΣΟΦΌΣ"]),
        ("елка", "Ёлка", ["Ёлка"]),
        ("مرحبا", "مَرْحَبًا", ["مَرْحَبًا"]),
        ("हिन्दी", "यह हिन्दी है", ["हिन्दी"]),
        ("cooperate", "co\u00adoperate", ["co\u00adoperate"]),
        ("fine 12", "ﬁne \uff11\uff12", ["ﬁne", "\uff11\uff12"]),
        ("cat", "concatenate", None),
        ("snake", "snake_case", ["snake"]),
    ],
)
def test_words_are_found_whole_without_case_and_diacritics(query: str, content: str, found: list[str] | None) -> None:
    assert hits(query, content) == found


@pytest.mark.parametrize(
    ("query", "content", "found"),
    [
        ("手机", "我的手机壳", ["手机"]),
        ("手机壳", "买手机壳", ["手机壳"]),
        ("手机壳", "手机 壳", None),
        ('"手机 壳"', "手机 壳", ["手机 壳"]),
        ("iPhone手机", "我的iPhone手机壳", ["iPhone手机"]),
        ("iphone", "我的iPhone手机壳", ["iPhone"]),
        ("phone", "我的iPhone手机壳", None),
        ("T恤", "买T恤衫", ["T恤"]),
        ("한국", "대한민국과 한국어", ["한국"]),
        ("한국어", "\u1112\u1161\u11ab\u1100\u116e\u11a8어", ["\u1112\u1161\u11ab\u1100\u116e\u11a8어"]),
        ("ガス", "ｶﾞｽ代", ["ｶﾞｽ"]),
        ("がく", "か\u3099くせい", ["か\u3099く"]),
        ("สวัสดี", "กล่าวสวัสดีครับ", ["สวัสดี"]),
        ("𠮷野", "𠮷野家", ["𠮷野"]),
        ("😀手机😀", "😀手机", ["手机"]),
    ],
)
def test_unspaced_scripts_are_found_by_their_parts(query: str, content: str, found: list[str] | None) -> None:
    assert hits(query, content) == found


@pytest.mark.parametrize(
    ("query", "content", "found"),
    [
        ('"au lait"', "Café  au, lait", ["au, lait"]),
        ('"lait au"', "Café au lait", None),
        ('"au', "Café au lait", ["au"]),
        ("lai*", "au laitier", ["laitier"]),
        ('"au lai"*', "au laitier", ["au laitier"]),
        ('"lai*"', "au laitier", None),
        ("foo-bar", "foo bar", ["foo bar"]),
        ("foo-bar", "foo x bar", None),
        ("foo* ***", "food", ["food"]),
        ("a OR b", "a b", None),
        ("NOT not:x (near/2)", "not x near 2", ["not x", "near 2"]),
        ("b a", "a b", ["a", "b"]),
        ('a "a b"', "a b", ["a b"]),
        ("don't", "I don't", ["don't"]),
    ],
)
def test_only_quotes_and_a_final_star_mean_something(query: str, content: str, found: list[str] | None) -> None:
    if query.startswith("NOT"):
        assert has_all("not x near 2 not", parse_terms(query))
    else:
        assert hits(query, content) == found


@pytest.mark.parametrize("query", ["", " ", '"', '""', "*", '"*"', "…?!", "😀", "\u0301", "_", '" "*'])
def test_a_query_without_a_word_has_no_term(query: str) -> None:
    assert parse_terms(query) == []


@pytest.mark.parametrize("query", ["手", "手*", '"手 机"', "T", "手 a"])
def test_one_unspaced_character_has_nothing_in_the_index(query: str) -> None:
    has_nothing = [not term.words and term.prefix is None for term in parse_terms(query)]
    assert any(has_nothing) is (query != "T")


def test_the_index_has_the_words_that_a_query_asks_for() -> None:
    words = list_words("買手機iPhone手机 T恤 Ünï-corn 好 x").split()
    assert words == ["買手", "手機", "iphone", "手机", "t", "uni", "corn", "x"]


@settings(max_examples=40)
@given(st.text(CHARACTERS, max_size=60), st.data())
def test_any_piece_of_a_text_is_found_in_it(text: str, data: st.DataObject) -> None:
    """A word of the index, or two neighbours; and what a query asks of the index is in it."""
    words = list_words(text).split()
    if not words:
        return
    word = data.draw(st.sampled_from(words))
    terms = parse_terms(word)
    assert {asked for term in terms for asked in term.words} <= set(words)
    excerpt = make_excerpt(text, terms)
    assert excerpt is not None
    assert excerpt.text in text
    assert all(fold(excerpt.text[start:end]).strip() for start, end in excerpt.hits)


@settings(max_examples=40)
@given(st.text(CHARACTERS, max_size=40), st.text(CHARACTERS, max_size=60))
def test_no_query_fails(query: str, content: str) -> None:
    terms = parse_terms(query)
    assert terms == [] or has_all(content, terms) is (make_excerpt(content, terms) is not None)


def test_an_excerpt_is_a_piece_around_its_hits() -> None:
    content = "start " + "word " * 200 + "Ünïcorn and 😀 unicorn " + "tail " * 200
    excerpt = make_excerpt(content, parse_terms("unicorn"))
    assert excerpt is not None
    assert len(excerpt.text) <= SNIPPET_CHARACTERS
    assert excerpt.text in content
    assert [excerpt.text[start:end] for start, end in excerpt.hits] == ["Ünïcorn", "unicorn"]
    # Where most terms are together.
    content = "red " + "word " * 200 + "red green " + "tail " * 200
    excerpt = make_excerpt(content, parse_terms("red green"))
    assert excerpt is not None
    assert [excerpt.text[start:end] for start, end in excerpt.hits] == ["red", "green"]


def test_an_excerpt_is_the_first_of_equal_pieces_and_cuts_no_word() -> None:
    excerpt = make_excerpt("word " * 100 + "a red xy " + "word " * 200 + "green", parse_terms("green red"))
    assert excerpt is not None
    assert " red " in excerpt.text
    assert set(excerpt.text.split()) == {"word", "a", "red", "xy"}


def test_a_hit_longer_than_an_excerpt_is_cut() -> None:
    excerpt = make_excerpt("a" * 1000, parse_terms("aa*"))
    assert excerpt == ("a" * SNIPPET_CHARACTERS, [(0, SNIPPET_CHARACTERS)])
    excerpt = make_excerpt("x " * 1000, parse_terms("x"))
    assert excerpt is not None
    assert len(excerpt.hits) == SNIPPET_CHARACTERS / 2


def test_code_points_that_are_no_characters_are_spaces_and_are_not_kept() -> None:
    kept = len(_TABLE)
    assert fold("a\U00050000b\ue000\U0010ffff\uffff") == "a b   "
    assert len(_TABLE) == kept
    for character in ("\u0378", "\ufdd0", "\U00020000", "\ud7a3"):
        assert fold(character) == _fold_character(character)
