"""What the flags of the Hugging Face CTC example (`run_speech_recognition_ctc.py`) are called here.

They are the fields of its ModelArguments and DataTrainingArguments and of transformers' TrainingArguments.
docs/from-hf-example.md has the same table for readers and says what differs; tests/trainer/cli/test_hf_flags.py holds
the two equal.
"""

from __future__ import annotations

PAGE = "docs/from-hf-example.md"

OURS: dict[str, str] = {
    # the data set
    "dataset_name": "hub --corpus.dataset",
    "dataset_config_name": "hub --corpus.subset",
    "train_split_name": "hub --corpus.train-split",
    "eval_split_name": "hub --corpus.eval-split",
    "text_column_name": "--corpus.text-field",
    "audio_column_name": "--corpus.audio-field",
    "chars_to_ignore": "--corpus.normalizer",
    "max_duration_in_seconds": "--corpus.max-seconds",
    "max_train_samples": "hub --corpus.train-split",
    "max_eval_samples": "hub --corpus.eval-split",
    "preprocessing_only": "--check",
    "preprocessing_num_workers": "--batching.num-workers",
    # the model
    "model_name_or_path": "--model.pretrained",
    "freeze_feature_encoder": "--model.freeze-feature-encoder",
    "attention_dropout": "--model.attention-dropout",
    "activation_dropout": "--model.activation-dropout",
    "feat_proj_dropout": "--model.feat-proj-dropout",
    "hidden_dropout": "--model.hidden-dropout",
    "final_dropout": "--model.final-dropout",
    "layerdrop": "--model.layerdrop",
    "mask_time_prob": "--model.mask-time-prob",
    "mask_time_length": "--model.mask-time-length",
    "mask_feature_prob": "--model.mask-feature-prob",
    "mask_feature_length": "--model.mask-feature-length",
    "adapter_attn_dim": "--model.adapter-only",
    "adapter_language": "--model.target-lang",
    # training
    "output_dir": "--runs-dir and --name",
    "overwrite_output_dir": "--overwrite",
    "resume_from_checkpoint": "--resume",
    "run_name": "--name",
    "per_device_train_batch_size": "--batching.batch-size",
    "per_device_eval_batch_size": "--eval.batch-size",
    "auto_find_batch_size": "--batching.max-batch-seconds",
    "gradient_accumulation_steps": "--train.grad-accum-steps",
    "num_train_epochs": "--train.epochs",
    "max_steps": "--train.max-steps",
    "learning_rate": "--optim.lr",
    "warmup_steps": "--optim.warmup-steps",
    "warmup_ratio": "--optim.warmup-steps",
    "weight_decay": "--optim.weight-decay",
    "max_grad_norm": "--optim.max-grad-norm",
    "fp16": "--precision fp16",
    "bf16": "--precision bf16",
    "gradient_checkpointing": "--model.activation-checkpointing",
    "activation_checkpointing": "--model.activation-checkpointing",
    "logging_steps": "--train.log-every",
    "eval_steps": "--train.eval-every",
    "eval_strategy": "--train.eval-every",
    "evaluation_strategy": "--train.eval-every",
    "save_steps": "--train.save-every",
    "save_strategy": "--train.save-every",
    "save_total_limit": "--train.save-total-limit",
    "load_best_model_at_end": "--train.export best",
    "early_stopping_patience": "--train.patience",
    "dataloader_num_workers": "--batching.num-workers",
    "hub_model_id": "--push-to-hub",
    "use_cpu": "--device cpu",
    "no_cuda": "--device cpu",
    "full_determinism": "--deterministic",
    "fsdp": "--parallel fsdp",
    "data_seed": "--seed",
}
"""Flag -> the options that do its work, as they are typed; a preset before them is the one that has them."""

NONE: dict[str, str] = {
    "overwrite_cache": "a cached file is found by the content that it was made from",
    "use_auth_token": "log in once with: hf auth login",
    "token": "log in once with: hf auth login",
    "trust_remote_code": "no code of a checkpoint is run",
    "unk_token": "the checkpoint's own is used, or [UNK]",
    "pad_token": "the checkpoint's own is used, or [PAD]",
    "word_delimiter_token": "the checkpoint's own is used, or |",
    "tokenizer_name_or_path": "the vocabulary is the checkpoint's or comes from the training text",
    "phoneme_language": "there is no phonemizer: phones are text, or a phoneme checkpoint's units with spaces",
    "ctc_loss_reduction": "the loss is always per unit of the transcript",
    "ctc_zero_infinity": "utterances that CTC cannot learn are found beforehand and named",
    "min_duration_in_seconds": "an utterance too short for its transcript is found beforehand and named",
    "eval_metrics": "WER, CER and the sentence error rate are always computed",
    "metric_for_best_model": "the lowest WER is the best",
    "greater_is_better": "the lowest WER is the best",
    "group_by_length": "utterances of similar length always share a batch",
    "train_sampling_strategy": "utterances of similar length always share a batch",
    "length_column_name": "lengths come from the audio files' headers",
    "lr_scheduler_type": "the rate always rises linearly and falls linearly to 0",
    "do_train": "training always happens; to score a finished model: python -m scripts.evaluate MODEL",
    "do_eval": "evaluation always happens; to score a finished model: python -m scripts.evaluate MODEL",
    "do_predict": "to score a finished model: python -m scripts.evaluate MODEL",
    "report_to": "TensorBoard's files are always written: tensorboard --logdir runs",
    "logging_dir": "TensorBoard's files lie in the run's folder",
    "local_rank": "torchrun tells each process its rank, docs/howto-cluster.md",
    "torch_compile": "on CUDA whole passes are captured and launched at once, which compiling did not beat",
    "optim": "the optimizer is always AdamW; --optim.moments 8bit is adamw_bnb_8bit",
    "adam_beta1": "AdamW has betas 0.9 and 0.999",
    "adam_beta2": "AdamW has betas 0.9 and 0.999",
    "adam_epsilon": "AdamW has eps 1e-8",
}
"""Flag without an option here -> why it needs none."""

OTHERS = frozenset((
    "lr_scheduler_kwargs", "optim_args", "optim_target_modules", "average_tokens_across_devices",
    "label_smoothing_factor", "bf16_full_eval", "fp16_full_eval", "tf32", "activation_checkpointing_kwargs",
    "gradient_checkpointing_kwargs", "torch_compile_backend", "torch_compile_mode", "use_liger_kernel",
    "liger_kernel_config", "use_cache", "neftune_noise_alpha", "torch_empty_cache_steps", "logging_strategy",
    "logging_first_step", "log_on_each_node", "logging_nan_inf_filter", "include_num_input_tokens_seen",
    "log_level", "log_level_replica", "disable_tqdm", "project", "trackio_space_id", "trackio_bucket_id",
    "trackio_static_space_id", "eval_delay", "prediction_loss_only", "eval_on_start", "eval_do_concat_batches",
    "eval_use_gather_object", "eval_accumulation_steps", "include_for_metrics", "batch_eval_metrics",
    "save_only_model", "save_on_each_node", "enable_jit_checkpoint", "hub_token", "hub_private_repo",
    "hub_strategy", "hub_always_push", "hub_revision", "ignore_data_skip",
    "restore_callback_states_from_checkpoint", "accelerator_config", "parallelism_config", "dataloader_drop_last",
    "dataloader_pin_memory", "dataloader_persistent_workers", "dataloader_prefetch_factor",
    "dataloader_multiprocessing_context", "dataloader_in_order", "remove_unused_columns", "label_names",
    "ddp_find_unused_parameters", "ddp_bucket_cap_mb", "ddp_broadcast_buffers", "ddp_static_graph", "ddp_backend",
    "ddp_timeout", "fsdp_config", "deepspeed", "debug", "skip_memory_metrics", "half_precision_backend",
    "fp16_opt_level", "jit_mode_eval", "save_safetensors",
))  # fmt: skip
"""Fields of TrainingArguments, now or in older releases, that nothing here corresponds to."""


def counterpart(flag: str) -> str:
    """What is said of one of the example's flags, typed without its dashes; empty for what is none of them.

    >>> counterpart("learning-rate")
    'The Hugging Face example calls it that; here it is --optim.lr (docs/from-hf-example.md).'
    """
    name = flag.replace("-", "_").lower()
    name = name if name in {*OURS, *NONE, *OTHERS} else name.removeprefix("no_")
    if name in OURS:
        ours = OURS[name]
        here = f"{ours.removeprefix('hub ')} of preset hub" if ours.startswith("hub ") else ours
        return f"The Hugging Face example calls it that; here it is {here} ({PAGE})."
    if name in NONE:
        return f"The Hugging Face example has it; leave it out here: {NONE[name]} ({PAGE})."
    return f"transformers has it; nothing here corresponds to it, so leave it out ({PAGE})." if name in OTHERS else ""
