"""Sample text from the released SEDD, on a machine with internet: download it once, then give a prompt.

    pip install 'loupe[text]'
    python workflow/sample_released_sedd.py --size small --prompt "The most important thing" --steps 128

The weights (0.7 GB small, 1.7 GB medium) come from https://huggingface.co/louaaron/sedd-small or sedd-medium, GPT-2's
tokenizer from https://huggingface.co/openai-community/gpt2. Use --weights and --tokenizer for your own files.
"""

import argparse

import torch

from loupe.diffusion.discrete import LogLinearNoise, load_released_sedd, sample

FILES = ("model.safetensors", "pytorch_model.bin")


def download(size):
    """The path of the weights, in the cache of huggingface_hub."""
    from huggingface_hub import hf_hub_download, list_repo_files

    repository = f"louaaron/sedd-{size}"
    there = list_repo_files(repository)
    return hf_hub_download(repository, next(name for name in FILES if name in there))


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=("small", "medium"), default="small")
    parser.add_argument("--weights", help="a weights file, instead of a download")
    parser.add_argument("--tokenizer", help="a tokenizer.json, instead of a download")
    parser.add_argument("--prompt", action="append", help="prompt; repeat the option for more texts")
    parser.add_argument("--length", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=128)
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--top-p", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    from tokenizers import Tokenizer

    if options.tokenizer:
        tokenizer = Tokenizer.from_file(options.tokenizer)
    else:
        tokenizer = Tokenizer.from_pretrained("openai-community/gpt2")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    score = load_released_sedd(options.weights or download(options.size)).to(device)
    prompts = [tokenizer.encode(text).ids for text in options.prompt or [""]]
    shape = len(prompts), options.length
    where, tokens = torch.zeros(shape, dtype=torch.bool), torch.zeros(shape, dtype=torch.int64)
    for row, ids in enumerate(prompts):
        ids = ids[: options.length]
        where[row, : len(ids)], tokens[row, : len(ids)] = True, torch.tensor(ids, dtype=torch.int64)
    drawn = sample(
        score, score.graph, LogLinearNoise(), shape, steps=options.steps, given=(where, tokens), device=device,
        temperature=options.temperature, top_p=options.top_p,
        generator=torch.Generator(device).manual_seed(options.seed),
    )  # fmt: skip
    for ids in drawn.tokens.tolist():
        print(tokenizer.decode(ids), end="\n\n")


if __name__ == "__main__":
    main()
