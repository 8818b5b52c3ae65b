"""AltTrain on R1-Distill-Qwen-1.5B, for a world of 1.

    torchrun recipes/alttrain_1p5b.py --data.train runs/alttrain-1k.jsonl --output runs/alttrain-1p5b

Meant for one GPU of 48 GB or more.
Planned by --plan.gpu l40s, predicted and not measured: 1 x L40S, 48 GB: 21.6 GiB of 44.0 a GPU, nothing recomputed, 214
ms a step of 2,698 tokens, 945 steps in 3.4 minutes.
Optimizer, schedule and batch are R1-Act's (arXiv 2508.00324), which AltTrain (arXiv 2604.18946) follows; the weight of
2 on the assessment is ours, and --loss.assessment 1 is the paper's own loss.
"""

from alttrain.engine.cli import main
from alttrain.engine.config import (
    BatchConfig,
    DataConfig,
    LossConfig,
    ModelConfig,
    OptimConfig,
    RunConfig,
    ScheduleConfig,
    ZeroConfig,
)

CONFIG = RunConfig(
    model=ModelConfig(path="deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B"),
    data=DataConfig(train=("runs/alttrain-1k.jsonl",)),
    loss=LossConfig(assessment=2.0),
    batch=BatchConfig(examples=16, pack_tokens=8192),
    optim=OptimConfig(lr=1e-5, betas=(0.9, 0.95), weight_decay=1e-4, max_grad_norm=1.0),
    schedule=ScheduleConfig(epochs=15, warmup_steps=5),
    zero=ZeroConfig(stage=1),
    output="runs/alttrain-1p5b",
)

if __name__ == "__main__":
    main(CONFIG)
