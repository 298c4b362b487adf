"""Any text survives the round trip; special tokens are never made from ordinary text."""

import subprocess
import sys

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import models, pre_tokenizers

from uvlm.errors import ConfigError, InputError
from uvlm.text.tokenizer import SPECIAL_TOKENS, Tokenizer, train_tokenizer

REPORTS = [
    f"Findings: A {size} mm nodule in the {side} upper lobe. No pleural effusion."
    for size in range(4, 30)
    for side in ("left", "right")
]
TOKENIZER = train_tokenizer(REPORTS, vocab_size=400)


@settings(deadline=None)
@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_any_text_survives_the_round_trip(text):
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text


@pytest.mark.parametrize("name", SPECIAL_TOKENS)
def test_the_name_of_a_special_token_in_a_report_is_text(name):
    text = f"before {name} after"
    ids = TOKENIZER.encode(text)
    assert not set(ids) & set(TOKENIZER.special_ids.values())
    assert TOKENIZER.decode(ids) == text


def test_markup_reads_special_tokens_and_decoding_leaves_them_out():
    ids = TOKENIZER.encode("<|im_start|>user\nReport<|im_end|>", markup=True)
    assert ids[0] == TOKENIZER.special_ids["<|im_start|>"]
    assert ids[-1] == TOKENIZER.eos_id
    assert TOKENIZER.decode(ids) == "user\nReport"


def test_every_id_is_below_the_vocabulary_size_and_special_ids_differ():
    assert len(set(TOKENIZER.special_ids.values())) == len(SPECIAL_TOKENS)
    assert max(TOKENIZER.special_ids.values()) < TOKENIZER.vocab_size <= 400


def test_words_of_the_training_reports_take_few_tokens():
    assert len(TOKENIZER.encode(REPORTS[0])) < len(REPORTS[0]) / 3


def test_training_gives_the_same_tokenizer_in_another_process(tmp_path):
    code = (
        "import sys; sys.path.insert(0, sys.argv[2]); import test_tokenizer as t; "
        "t.TOKENIZER.save(sys.argv[1])"
    )
    folder = str(__file__).rsplit("/", 1)[0]
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "b"), folder], check=True)
    mine = TOKENIZER.save(tmp_path / "a")
    assert mine.read_bytes() == (tmp_path / "b" / "tokenizer.json").read_bytes()


def test_a_saved_tokenizer_loads_from_its_folder_and_its_file(tmp_path):
    file = TOKENIZER.save(tmp_path)
    for path in (tmp_path, file):
        loaded = Tokenizer.load(path)
        assert loaded.encode(REPORTS[3]) == TOKENIZER.encode(REPORTS[3])
        assert loaded.special_ids == TOKENIZER.special_ids
        assert loaded.added == ()
    assert [p.name for p in tmp_path.iterdir()] == ["tokenizer.json"]


def foreign(path, special):
    """A tokenizer of another project: its own vocabulary, some special tokens at the end."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = tokenizers.Tokenizer(models.BPE({c: i for i, c in enumerate(alphabet)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = tokenizers.decoders.ByteLevel()
    backend.add_special_tokens(special)
    backend.enable_truncation(4)
    backend.save(str(path))
    return path


def test_special_tokens_already_there_are_reused(tmp_path):
    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"]
    loaded = Tokenizer.load(foreign(tmp_path / "tokenizer.json", names))
    assert loaded.vocab_size == 261
    assert (loaded.vision_start_id, loaded.vision_end_id, loaded.added) == (259, 260, ())


def test_missing_special_tokens_are_added_at_the_end_and_reported(tmp_path, caplog):
    loaded = Tokenizer.load(foreign(tmp_path / "tokenizer.json", ["<|im_start|>", "<|im_end|>"]))
    assert loaded.added == ("<|endoftext|>", "<|vision_start|>", "<|vision_end|>")
    assert loaded.vocab_size == 261
    assert "added <|endoftext|>, <|vision_start|>, <|vision_end|>" in caplog.text


def test_a_tokenizer_that_changes_numbers_is_told_so(tmp_path, caplog):
    backend = tokenizers.Tokenizer(tokenizers.models.WordPiece({"[UNK]": 0}, unk_token="[UNK]"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    trainer = tokenizers.trainers.WordPieceTrainer(special_tokens=["[UNK]"], show_progress=False)
    backend.decoder = tokenizers.decoders.WordPiece()
    backend.train_from_iterator(["Nodule of 1.5 x 2 cm in S6, (70%)."], trainer)
    backend.save(str(tmp_path / "tokenizer.json"))
    Tokenizer.load(tmp_path)
    assert "does not come back as it was" in caplog.text
    assert "1. 5" in caplog.text


def test_a_byte_level_tokenizer_loads_without_a_word(tmp_path, caplog):
    train_tokenizer(REPORTS, vocab_size=300).save(tmp_path)
    Tokenizer.load(tmp_path)
    assert caplog.text == ""


def test_a_foreign_length_limit_does_not_cut_reports(tmp_path):
    loaded = Tokenizer.load(foreign(tmp_path / "tokenizer.json", []))
    assert loaded.decode(loaded.encode(REPORTS[0])) == REPORTS[0]


def test_a_folder_without_a_tokenizer_is_named(tmp_path):
    with pytest.raises(InputError, match=r"holds no tokenizer\.json.*Give"):
        Tokenizer.load(tmp_path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"x\.json: no such file"):
        Tokenizer.load(tmp_path / "x.json")


@pytest.mark.parametrize("content", ["", "{}", "not json", '{"model": {"type": "Unknown"}}'])
def test_a_file_that_is_no_tokenizer_is_refused(tmp_path, content):
    file = tmp_path / "tokenizer.json"
    file.write_text(content)
    with pytest.raises(InputError, match="is not a tokenizer"):
        Tokenizer.load(tmp_path)
    assert file.read_text() == content


def test_binary_content_is_refused(tmp_path):
    (tmp_path / "tokenizer.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="is not a tokenizer"):
        Tokenizer.load(tmp_path)


def test_a_vocabulary_smaller_than_the_bytes_is_refused():
    with pytest.raises(ConfigError, match="vocab_size is 200; it must be at least 261"):
        train_tokenizer(REPORTS, vocab_size=200)


@pytest.mark.parametrize("texts", [[], ["", "  "]])
def test_training_on_nothing_is_refused(texts):
    with pytest.raises(InputError, match="no text"):
        train_tokenizer(texts)
