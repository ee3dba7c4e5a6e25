"""Golden ids of two small tokenizers, by Hugging Face tokenizers: run to make tokenizer_bpe/ and tokenizer_wordpiece/ anew.

    python tests/golden/model/tokenizer.py

The BPE one is trained here on the texts below in the form of Qwen2 (NFC, its split pattern, byte level) with 400 entries; the
WordPiece one has the form of the demo's world. vectors.jsonl: one {"text", "ids", "special", "decoded"} a line; special says that
added tokens in the text count; the first line records the versions."""
import json
import os
import random
import sys
import unicodedata

import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

HERE = os.path.dirname(os.path.abspath(__file__))
PATTERN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]

TEXTS = [
    "", " ", "  ", "a", "The capital of France is Paris.", "What is the capital of the Czech Republic? It is Prague.",
    "I'm sure they'll say it's what we've done; you'd better. WE'LL SEE. I'M. O'T", "don't DON'T dON'T \u2019s 's' 's", "'\u017f",
    "1234567890", "3.14159, 2,718 and 1e-6", "x1y2z3", "line\nline\r\nline\rline\n\n\nend", "   leading", "trailing   ",
    "tab\tand\ttabs\t\t", " \n \n ", "\n\n  x", "a  b   c    d", "\u00a0no-break\u00a0space\u3000wide", "zero\u200bwidth\u200djoin",
    "\u180e\u180ea \u180e", "\u0085next\u2028line\u2029par", "P\u0159\u00edli\u0161 \u017elu\u0165ou\u010dk\u00fd k\u016f\u0148", "stra\u00dfe \u0130stanbul",
    unicodedata.normalize("NFD", "P\u0159\u00edli\u0161 \u017elu\u0165ou\u010dk\u00fd k\u016f\u0148 \u00c5ngstr\u00f6m"), "\u212b \u2126 \uf900", "q\u0323\u0307 q\u0307\u0323",
    "\u65e5\u672c\u8a9e\u306e\u30c6\u30ad\u30b9\u30c8", "\u4e2d\u6587\uff0c\u6807\u70b9\u3002", "\ud55c\uad6d\uc5b4", "\u1112\u1161\u11ab",
    "\u0627\u0644\u0639\u0631\u0628\u064a\u0629 \u0661\u0662\u0663", "\u0939\u093f\u0928\u094d\u0926\u0940", "\u2163 \u00bd \u2460 \u0968",
    "\U0001f600\U0001f469\u200d\U0001f52c\U0001f1e8\U0001f1ff!", "if (x == 1) {\n\treturn y[0];\n}", "http://example.org/a?b=c&d=%20",
    "<|im_start|>user\nHi<|im_end|>\n", "<|im_end", "<|im_end|><|im_end|>", "a<|endoftext|>b", "!!!???...", "\u2026\u2014\u2013\u201cquoted\u201d",
    "\x01\x7f\x80", "\ufffd\ufeffbom", "\u0300start", "e\u0301", "\U0001d160", "\u1e9b\u0323", "a\u0315\u0300\u05ae\u0062",
]


def random_texts(count):
    draw = random.Random(7)
    ranges = [(0x20, 0x7e)] * 6 + [(0xa0, 0x24f), (0x300, 0x36f), (0x370, 0x3ff), (0x400, 0x45f), (0x5d0, 0x5ea),
                                   (0x1e00, 0x1eff), (0x2000, 0x206f), (0x3040, 0x30ff), (0x4e00, 0x4eff), (0xac00, 0xacff),
                                   (0x1f600, 0x1f64f), (0x9, 0xd)]
    for _ in range(count):
        yield "".join(chr(draw.randint(*draw.choice(ranges))) for _ in range(draw.randint(1, 40)))


def write(name, tokenizer, eos, texts):
    folder = os.path.join(HERE, name)
    os.makedirs(folder, exist_ok=True)
    tokenizer.save(os.path.join(folder, "tokenizer.json"))
    with open(os.path.join(folder, "tokenizer_config.json"), "w") as out:
        json.dump({"eos_token": eos}, out)
        out.write("\n")
    plain = Tokenizer.from_str(json.dumps({**json.loads(tokenizer.to_str()), "added_tokens": []}))
    with open(os.path.join(folder, "vectors.jsonl"), "w") as out:
        versions = {"python": sys.version.split()[0], "tokenizers": tokenizers.__version__}
        out.write(json.dumps({"versions": versions}) + "\n")
        for text in texts:
            for special in (False, True):
                ids = (tokenizer if special else plain).encode(text, add_special_tokens=False).ids
                if special and "<" not in text:
                    continue
                decoded = tokenizer.decode(ids, skip_special_tokens=True)
                row = {"text": text, "ids": ids, "special": special, "decoded": decoded}
                out.write(json.dumps(row) + "\n")


def bpe():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(PATTERN), behavior="isolated", invert=False),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False)
    tokenizer.train_from_iterator(TEXTS * 3, trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    write("tokenizer_bpe", tokenizer, "<|im_end|>", TEXTS + list(random_texts(400)))


def wordpiece():
    words = ["[UNK]", "Where", "does", "live", "?", "Oak", "##ford", "##for", "##d", "Silver", "##ton", "I", "recall", ".",
             "boxed[", "]", "Unknown", "\u017dlu", "##\u0165"]
    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]",
                                           continuing_subword_prefix="##", max_input_chars_per_word=100))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=False)
    tokenizer.add_special_tokens([AddedToken("<end>", special=True, normalized=False)])
    texts = ["", "Where does Oakford live ?", "I recall Silverton . boxed[ Silverton ]", "Oak ford Oakfordford Oakfox ##ford",
             "boxed[ Unknown ] <end>", "<end>", "Where\u00a0does\u3000live\u2028?\u200b", "\u017dlu\u0165 \u017dlu\u0165\u0165", "Oak" + "ford" * 24,
             "Oak" + "ford" * 25, "  \t\n", "Where ?  Where\u180e?"]
    write("tokenizer_wordpiece", tokenizer, "<end>", texts)


bpe()
wordpiece()
