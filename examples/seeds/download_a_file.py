"""The first block of the first text: download one file of a model. (R: hfhub::hf_hub_download)"""

from nativebert.hub import resolve

snapshot = resolve(
    "distilbert-base-uncased", weights=False
)  # everything but the weights; a pinned commit, from the cache next time
config_path = snapshot.require("config.json")
print(config_path)
