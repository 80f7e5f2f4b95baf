"""Makes the golden vectors of a model with sentence-transformers:  make-golden.py MODEL_FOLDER TEXTS_JSON OUT_JSON

TEXTS_JSON is assets/golden/texts.json for the vectors that are checked at start, or
test/fixtures/golden-texts.json for the larger set that the tests use."""
import base64, json, sys
import numpy, sentence_transformers, torch, transformers

folder, texts_path, out_path = sys.argv[1:4]
texts = json.load(open(texts_path, encoding="utf-8"))["texts"]
model = sentence_transformers.SentenceTransformer(folder, device="cpu")
# One text at a time: no padding takes part in the reference.
vectors = [model.encode([text], normalize_embeddings=True)[0] for text in texts]
made_by = (f"sentence-transformers {sentence_transformers.__version__}, transformers {transformers.__version__}, "
           f"torch {torch.__version__}, fp32, one text at a time")
items = [{"text": text, "vector": base64.b64encode(vector.astype("<f4").tobytes()).decode()} for text, vector in zip(texts, vectors)]
json.dump({"madeBy": made_by, "items": items}, open(out_path, "w", encoding="utf-8"), ensure_ascii=False, indent=1)
print(len(items), "vectors of", len(vectors[0]), "worst norm error", max(abs(float(numpy.linalg.norm(v)) - 1) for v in vectors))
