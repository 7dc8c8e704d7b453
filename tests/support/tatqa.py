"""TAT-QA's test set in BEIR's layout: the paragraphs of financial reports, and the questions whose answer rests on them."""

import json
from pathlib import Path

from shared import shared

_ASKED = frozenset({"text", "table-text"})


def write_tatqa(folder: Path) -> Path:
    """Write 1,279 paragraphs, 927 questions and their judgements to `folder`. Skips the test where the data is not at hand."""
    reports = json.loads(shared("data/tatqa_test_gold.json").read_bytes())
    (folder / "qrels").mkdir(parents=True)
    documents, questions, judgements = [], [], ["query-id\tcorpus-id\tscore"]
    for report in reports:
        called = {str(paragraph["order"]): paragraph["uid"] for paragraph in report["paragraphs"]}
        documents += [
            {"_id": paragraph["uid"], "title": "", "text": paragraph["text"]} for paragraph in report["paragraphs"]
        ]
        for question in report["questions"]:
            if question["answer_from"] in _ASKED:
                questions.append({"_id": question["uid"], "text": question["question"]})
                judgements += [f"{question['uid']}\t{called[order]}\t1" for order in question["rel_paragraphs"]]
    for name, entries in (("corpus.jsonl", documents), ("queries.jsonl", questions)):
        (folder / name).write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    (folder / "qrels" / "test.tsv").write_text("\n".join(judgements) + "\n")
    return folder
