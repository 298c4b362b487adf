"""Every sentence gets the tokens that wrote it, whatever the tokenizer cuts."""

import random
from itertools import pairwise

import pytest
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from tests.inference.bundle_factory import TEXTS, tiny_tokenizer
from uvlm.inference.evidence.spans import token_spans
from uvlm.text.cleaning import split_sentences
from uvlm.text.tokenizer import Tokenizer, train_tokenizer

REPORT = (
    "Findings: The lungs are clear. A nodule of 1.5 cm is seen.  No effusion. "
    "Impression: Lung nodule. No effusion."
)
FOREIGN = "Findings: Kalp büyük. 心臓は大きい。 Ödem yok 🫁. Impression: Ödem."


def word_pieces():
    backend = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(cleanup=True)
    trainer = trainers.WordPieceTrainer(vocab_size=400, special_tokens=["[UNK]"])
    backend.train_from_iterator([*TEXTS, REPORT, FOREIGN], trainer)
    return Tokenizer(backend)


def metaspace():
    backend = tokenizers.Tokenizer(models.Unigram())
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=120, unk_token="<unk>", special_tokens=["<unk>"])
    backend.train_from_iterator([*TEXTS, REPORT, FOREIGN] * 4, trainer)
    return Tokenizer(backend)


TOKENIZERS = {
    "bytes": tiny_tokenizer(),
    "long pieces": train_tokenizer([REPORT] * 20, vocab_size=2000),
    "word pieces": word_pieces(),
    "metaspace": metaspace(),
}


def squeezed(text):
    return "".join(text.split())


@pytest.mark.parametrize("report", [REPORT, FOREIGN, *TEXTS])
@pytest.mark.parametrize("name", TOKENIZERS)
def test_the_tokens_of_a_span_write_the_sentence(name, report):
    tokenizer = TOKENIZERS[name]
    ids = tokenizer.encode(report)
    sentences = split_sentences(tokenizer.decode(ids))
    spans = token_spans(tokenizer, ids, sentences)
    for sentence, span in zip(sentences, spans, strict=True):
        wrote = squeezed(tokenizer.decode([ids[i] for i in span]))
        assert squeezed(sentence) in wrote
        for shorter in (span[1:], span[:-1]):
            assert squeezed(sentence) not in squeezed(tokenizer.decode([ids[i] for i in shorter]))


def test_spans_follow_one_another_and_equal_sentences_differ():
    tokenizer = TOKENIZERS["bytes"]
    ids = tokenizer.encode(REPORT)
    spans = token_spans(tokenizer, ids, split_sentences(REPORT))
    assert all(a.stop - 1 <= b.start for a, b in pairwise(spans))
    assert spans[2] != spans[4]


def test_tokens_that_are_pieces_of_one_letter_belong_to_its_sentence():
    tokenizer = train_tokenizer(["plain words"], vocab_size=261)  # one byte, one token
    text = "a. 🫁 b. c."
    ids = tokenizer.encode(text)
    _, lungs, _ = token_spans(tokenizer, ids, ["a.", "🫁 b.", "c."])
    assert [ids[i] for i in lungs] == tokenizer.encode("🫁 b.")


def test_any_text_in_any_alphabet_is_divided_without_gaps():
    tokenizer = TOKENIZERS["bytes"]
    draw = random.Random(0)
    for _ in range(30):
        words = [
            "".join(draw.choice("aé心🫁ß1.") for _ in range(draw.randint(1, 6))) for _ in range(9)
        ]
        ids = tokenizer.encode(" ".join(words))
        spans = token_spans(tokenizer, ids, words)
        assert sorted({i for span in spans for i in span} | blanks(tokenizer, ids)) == list(
            range(len(ids))
        )


def blanks(tokenizer, ids):
    return {i for i, one in enumerate(ids) if not tokenizer.decode([one]).strip()}


def test_special_tokens_between_sentences_belong_to_none():
    tokenizer = TOKENIZERS["bytes"]
    first, second = tokenizer.encode("The lungs."), tokenizer.encode(" No effusion.")
    ids = [*first, tokenizer.eos_id, *second]
    spans = token_spans(tokenizer, ids, ["The lungs.", "No effusion."])
    assert (spans[0].stop, ids[spans[1].start :][-1]) == (len(first), ids[-1])
    assert len(first) < spans[1].start


@pytest.mark.parametrize("sentences", [["Not there."], ["No effusion.", "The lungs."], [" "]])
def test_sentences_that_are_not_in_the_text_are_refused(sentences):
    tokenizer = TOKENIZERS["bytes"]
    with pytest.raises(ValueError, match=r"sentence \d of \d is not in the text"):
        token_spans(tokenizer, tokenizer.encode("The lungs. No effusion."), sentences)
