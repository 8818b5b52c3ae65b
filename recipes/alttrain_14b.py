"""AltTrain on R1-Distill-Qwen-14B, for a world of 8.

    torchrun --nproc_per_node 8 recipes/alttrain_14b.py --data.train runs/alttrain-1k.jsonl --output runs/alttrain-14b

Meant for eight GPUs of 80 GB.
Planned by --plan.gpu h100-80, predicted and not measured: 8 x H100 SXM, 80 GB: 54.4 GiB of 78.6 a GPU, nothing
recomputed, 462 ms a step of 1,360 tokens, 1,875 steps in 14.4 minutes.
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
    PlanConfig,
    RunConfig,
    ScheduleConfig,
    ZeroConfig,
)

CONFIG = RunConfig(
    model=ModelConfig(path="deepseek-ai/DeepSeek-R1-Distill-Qwen-14B"),
    data=DataConfig(train=("runs/alttrain-1k.jsonl",)),
    loss=LossConfig(assessment=2.0),
    batch=BatchConfig(examples=8, pack_tokens=8192),
    optim=OptimConfig(lr=1e-5, betas=(0.9, 0.95), weight_decay=1e-4, max_grad_norm=1.0),
    schedule=ScheduleConfig(epochs=15, warmup_steps=5),
    zero=ZeroConfig(stage=2),
    plan=PlanConfig(gpus=8),
    output="runs/alttrain-14b",
)

if __name__ == "__main__":
    main(CONFIG)
