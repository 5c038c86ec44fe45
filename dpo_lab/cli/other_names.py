"""What other tools call a setting: TRL, the TrainingArguments of transformers, peft, accelerate, LLaMA-Factory, ms-swift.

An entry is what to type here instead. VALUE stands for what was given; what follows ` # ` is told beside it; an entry of a name
with a value (`bf16=false`) goes before that of the name alone. Without anything to type, the setting is left out.
"""

import re

OWN = "data=jsonl data.path=FILE"
OTHER_NAMES = {
    # the model, how it is stored and what of it is trained
    **dict.fromkeys(
        ("model_name_or_path", "model_name", "model_id", "model_path", "base_model", "pretrained_model_name_or_path"),
        "model=local model.path=VALUE",
    ),
    **dict.fromkeys(("model.name", "model.id", "model.name_or_path", "model.model_name_or_path"), "model=local model.path=VALUE"),
    **dict.fromkeys(("policy", "run"), "model=local model.path=VALUE"),
    **dict.fromkeys(("quantization=4bit", "quantization=nf4", "bits=4", "quantization=int4"), "quant=4bit adapter=lora"),
    **dict.fromkeys(("quantization=8bit", "quantization=int8", "bits=8"), "quant=8bit adapter=lora"),
    **dict.fromkeys(("quantization", "bits"), "quant=VALUE adapter=lora"),
    **dict.fromkeys(("quant=nf4", "quant=int4", "quant=fp4", "quant=true"), "quant=4bit"),
    **dict.fromkeys(("quant=int8", "quant=fp8"), "quant=8bit"),
    **dict.fromkeys(("adapter=qlora", "recipe=qlora"), "quant=4bit adapter=lora"),
    **dict.fromkeys(("adapter=full", "adapter=false"), "adapter=none"),
    **dict.fromkeys(("load_in_4bit", "use_4bit", "qlora", "use_qlora"), "quant=4bit adapter=lora"),
    **dict.fromkeys(("load_in_8bit", "use_8bit"), "quant=8bit adapter=lora"),
    "quantization_bit": "quant=VALUEbit adapter=lora",
    **dict.fromkeys(("use_lora", "lora", "use_peft", "peft"), "adapter=lora"),
    **dict.fromkeys(("finetuning_type", "peft_type", "train_type"), "adapter=VALUE"),
    **dict.fromkeys(("finetuning_type=full", "train_type=full", "use_lora=false", "use_peft=false"), "adapter=none"),
    **dict.fromkeys(("use_dora", "lora_use_dora"), "adapter=dora"),
    **dict.fromkeys(("use_rslora", "lora_use_rslora"), "adapter=rslora"),
    **dict.fromkeys(("r", "lora_r", "lora_rank"), "adapter.rank=VALUE"),
    "lora_alpha": "adapter.alpha=VALUE",
    "lora_dropout": "adapter.dropout=VALUE",
    **dict.fromkeys(("lora_target", "lora_target_modules"), "adapter.target_modules=VALUE"),
    "lora_modules_to_save": "adapter.modules_to_save=VALUE",
    # number formats and devices
    **dict.fromkeys(("bf16", "use_bf16", "amp"), "precision=bf16"),
    **dict.fromkeys(
        (
            "fp16",
            "use_fp16",
            "precision=float16",
            "precision=16",
            "precision=half",
            "mixed_precision=fp16",
            "torch_dtype=float16",
        ),
        "precision=fp16",
    ),
    **dict.fromkeys(("precision=32", "precision=float32"), "precision=fp32"),
    **dict.fromkeys(("fp32", "bf16=false", "fp16=false", "mixed_precision=no"), "precision=fp32"),
    **dict.fromkeys(("mixed_precision", "torch_dtype", "dtype", "precision=bfloat16"), "precision=bf16"),
    **dict.fromkeys(("mixed_precision=fp32", "torch_dtype=float32", "torch_dtype=auto"), "precision=auto"),
    **dict.fromkeys(("gpu", "cuda", "use_cuda", "device"), "trainer=auto # a GPU when there is one"),
    **dict.fromkeys(("gpus", "num_gpus", "n_gpu", "nproc_per_node", "num_processes"), "trainer=ddp trainer.devices=VALUE"),
    **dict.fromkeys(("cpu", "use_cpu", "no_cuda", "device=cpu", "gpu=0", "gpu=false", "gpus=0"), "trainer=cpu"),
    **dict.fromkeys(
        ("threads", "num_threads", "cpu_threads", "num_workers", "dataloader_num_workers"),
        " # OMP_NUM_THREADS=VALUE in front of the command sets the threads of the CPU",
    ),
    **dict.fromkeys(("gradient_checkpointing", "activation_checkpointing"), "model.checkpointing=true"),
    **dict.fromkeys(("packing", "sample_packing", "padding_free"), "layout=packed"),
    **dict.fromkeys(("trainer=cuda", "trainer=mps"), "trainer=auto"),
    **dict.fromkeys(
        ("flash_attention", "flash_attn", "use_flash_attention", "use_flash_attn", "attn_implementation"),
        " # the fastest kernel of torch is taken; layout.attention=varlen is another one, for GPUs",
    ),
    **dict.fromkeys(("attn_implementation=sdpa", "attn_implementation=eager"), "layout.attention=sdpa"),
    **dict.fromkeys(("deepspeed", "fsdp", "fsdp_config"), " # trainer=ddp trains on several GPUs, each with the whole model"),
    "tf32": " # torch's own default is kept",
    **dict.fromkeys(("group_by_length", "length_column_name"), " # each step holds pairs of like length already"),
    **dict.fromkeys(
        ("remove_unused_columns", "dataset_num_proc"), " # columns that are no part of a pair are left out by themselves"
    ),
    # steps
    **dict.fromkeys(("steps", "total_steps", "num_steps", "max_iters"), "trainer.max_steps=VALUE"),
    "learning_rate": "optim.lr=VALUE",
    **dict.fromkeys(("optimizer", "optimiser"), "optim=VALUE"),
    **dict.fromkeys(("lr_scheduler_type", "lr_scheduler", "scheduler"), "optim.schedule=VALUE"),
    "warmup_ratio": "optim.warmup=VALUE",
    "warmup_steps": "optim.warmup=0.1 # a share of all steps",
    **dict.fromkeys(("max_grad_norm", "gradient_clipping", "grad_clip"), "optim.clip=VALUE"),
    "adam_epsilon": "optim.eps=VALUE",
    "adam_beta1": "optim.betas=[VALUE,0.999]",
    "adam_beta2": "optim.betas=[0.9,VALUE]",
    "wd": "optim.weight_decay=VALUE",
    **dict.fromkeys(("num_train_epochs", "num_epochs", "n_epochs", "epoch"), "trainer.epochs=VALUE"),
    **dict.fromkeys(
        ("per_device_train_batch_size", "train_batch_size", "micro_batch_size", "bs"),
        "trainer.batch_size=VALUE # pairs of a step",
    ),
    **dict.fromkeys(
        ("per_device_eval_batch_size", "eval_batch_size"), " # trainer.token_budget bounds the passes of evaluation as well"
    ),
    **dict.fromkeys(
        ("eval_steps", "eval_strategy", "evaluation_strategy", "save_strategy", "logging_strategy"),
        " # held-out pairs or prompts are measured before and after each round; callbacks.checkpoint.every says when to save",
    ),
    **dict.fromkeys(
        ("gradient_accumulation_steps", "accumulate_grad_batches"),
        "trainer.batch_size=32 # all pairs of a step; trainer.token_budget splits them into passes",
    ),
    **dict.fromkeys(
        ("max_seq_length", "max_seq_len", "sequence_len", "max_prompt_length", "cutoff_len", "model_max_length", "block_size"),
        "recipe.max_length=VALUE # tokens of prompt and answer together",
    ),
    **dict.fromkeys(("truncation_mode", "truncation_strategy"), "data.truncation=keep_end_prompt"),
    **dict.fromkeys(("iterations", "num_iterations", "num_rounds", "n_rounds"), "iteration.rounds=VALUE"),
    **dict.fromkeys(("random_seed", "data_seed"), "seed=VALUE"),
    # the loss and the reference
    **dict.fromkeys(("loss_type", "pref_loss", "rlhf_type"), "loss=VALUE"),
    **dict.fromkeys(("loss_type=sigmoid", "pref_loss=sigmoid", "loss=sigmoid"), "loss=dpo"),
    **dict.fromkeys(("rl", "method", "algorithm"), "loss=VALUE"),
    **dict.fromkeys(("loss=rpo", "loss_type=rpo"), "loss=dpo_nll # DPO with the likelihood of the chosen answer"),
    **dict.fromkeys(("rpo_alpha", "sft_weight", "pref_ftx"), "loss=dpo_nll loss.weights.nll=VALUE"),
    **dict.fromkeys(
        ("ref_model", "ref_model_name_or_path", "reference_model", "reference.path"),
        " # the reference is the model that training starts from",
    ),
    "loss_type=exo_pair": "loss=exo",
    "loss_type=nca_pair": "loss=nca",
    "loss_type=bco_pair": "loss=bco",
    "loss_type=sft": "loss=nll",
    "pref_beta": "loss.beta=VALUE",
    "simpo_gamma": "loss=simpo loss.gamma=VALUE",
    "use_weighting": "loss=wpo",
    "reference_free": "loss=simpo # it needs no reference",
    "precompute_ref_log_probs": "reference=cached",
    "sync_ref_model": "reference=ema",
    # data and answers
    **dict.fromkeys(
        (
            "dataset",
            "datasets",
            "dataset_name",
            "dataset_path",
            "train_file",
            "train_data",
            "data_path",
            "data_file",
            "data_files",
        ),
        "data=jsonl data.path=VALUE",
    ),
    **dict.fromkeys(
        ("data=csv", "data=json", "data=parquet", "data=hf", "data=hub", "data=local", "data=file", "data=custom"), OWN
    ),
    **dict.fromkeys(
        ("val_set_size", "validation_split", "test_size", "val_size", "eval_split"),
        " # a fifth of the prompts is held out for evaluation; data.held_out=N says how many",
    ),
    **dict.fromkeys(("max_samples", "max_train_samples", "data.max_samples"), "trainer.max_pairs=VALUE"),
    **dict.fromkeys(("shuffle=false", "shuffle_dataset=false"), "data.order=as_given"),
    **dict.fromkeys(
        ("num_generations", "num_return_sequences", "best_of_n", "n_samples", "n"),
        "sampler.num_samples=VALUE # answers to a prompt",
    ),
    **dict.fromkeys(("max_completion_length", "max_tokens"), "sampler.max_new_tokens=VALUE"),
    # where figures and files go
    **dict.fromkeys(("output_dir", "logging_dir", "save_dir", "out_dir", "output"), "paths.outputs=VALUE"),
    **dict.fromkeys(("report_to", "log_with"), "logger=VALUE"),
    **dict.fromkeys(("report_to=none", "report_to=all", "wandb=false", "use_wandb=false"), "logger=local"),
    **dict.fromkeys(("wandb", "use_wandb"), "logger=wandb"),
    "tensorboard": "logger=tensorboard",
    **dict.fromkeys(("wandb_project", "project"), "logger=wandb logger.wandb.project=VALUE"),
    **dict.fromkeys(("run_name", "name", "experiment_name", "exp_name"), "tags=[VALUE]"),
    "logging_steps": "trainer.log_every=VALUE",
    "save_steps": "callbacks.checkpoint.every=VALUE",
    "save_total_limit": "callbacks.checkpoint.keep=VALUE",
    "metric_for_best_model": "callbacks.checkpoint.best=VALUE",
    "load_best_model_at_end=false": "callbacks.checkpoint.final=last",
    "load_best_model_at_end": "callbacks.checkpoint.best=rewards/margins callbacks.checkpoint.final=best"
    " # or by a held-out figure: gold or eval/loss, with evaluation.every=20",
    **dict.fromkeys(
        ("push_to_hub", "hub_model_id", "hub_private_repo"),
        " # a finished run is published by dpo-lab publish source=RUN push=true repo=OWNER/NAME",
    ),
    **dict.fromkeys(("token", "hub_token", "hf_token", "use_auth_token"), " # `hf auth login` or HF_TOKEN gives the token"),
    **dict.fromkeys(
        ("config", "config_file"), " # settings of your own are an option of a group: --config-dir my_conf experiment=NAME"
    ),
    **dict.fromkeys(("verbose", "quiet", "debug_mode"), " # debug=fast makes the same run short"),
    **dict.fromkeys(("dry_run", "dryrun", "plan"), " # --cfg job shows what would run, and dpo-lab doctor what it needs"),
    **dict.fromkeys(("early_stopping", "early_stopping_patience"), "callbacks=early_stopping"),
    **dict.fromkeys(("overwrite_output_dir", "overwrite"), "force=true"),
    **dict.fromkeys(
        ("resume_from_checkpoint", "resume", "do_train", "do_eval", "do_predict"),
        " # train does both, and the same command resumes a run that was stopped",
    ),
}
STAGES = {
    **dict.fromkeys(("dpo", "run", "fit", "finetune", "fine-tune", "align", "training"), "train"),
    **dict.fromkeys(("generate", "predict", "infer", "inference", "sampling", "draw"), "sample"),
    **dict.fromkeys(("score", "label", "judge", "annotate"), "rank"),
    **dict.fromkeys(("test", "compare", "benchmark"), "evaluate"),
    **dict.fromkeys(("push", "upload", "push_to_hub", "release"), "publish"),
    **dict.fromkeys(("merge", "convert", "save"), "export"),
    **dict.fromkeys(("sft", "pretraining"), "pretrain"),
    **dict.fromkeys(("check", "estimate", "memory"), "doctor"),
}
"""What other tools call a stage."""
SWITCHED_OFF = ("false", "0", "none", "null", "no", "off")


def here(name: str, value: str) -> tuple[str, str] | None:
    """Return what to type instead of another tool's setting, and what to tell beside it; None for a name that is unknown.

    >>> here("learning_rate", "1e-5"), here("bf16", "True"), here("lora", "false"), here("epochs", "1")
    (('optim.lr=1e-5', ''), ('precision=bf16', ''), ('', 'it is off unless it is asked for'), None)
    """
    name, said = name.lower(), value.strip("'\"").lower()
    entry = OTHER_NAMES.get(f"{name}={said}") or OTHER_NAMES.get(name)
    if entry is None:
        return None
    words, _, note = entry.partition("# ")
    if "VALUE" not in words and said in SWITCHED_OFF and f"{name}={said}" not in OTHER_NAMES:
        return "", note or "it is off unless it is asked for"
    return words.strip().replace("VALUE", value), note.replace("VALUE", value)


def name_here(name: str) -> str:
    """Return the last name of the key that another tool's setting is here; the name itself if it is not such a key.

    >>> name_here("r"), name_here("learning_rate"), name_here("use_lora"), name_here("beta")
    ('rank', 'lr', 'use_lora', 'beta')
    """
    found = re.search(r"\.([a-z_]+)=VALUE$", OTHER_NAMES.get(name.lower(), "").partition(" # ")[0])
    return found[1] if found else name
