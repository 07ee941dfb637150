# rows.py -- trains one epoch of instruction rows with TRL's SFTTrainer on the CPU, the prompt masked, in
# float32; with a rank, as LoRA by peft.
#
#   python dev/peers/rows.py MODEL ROWS.json BATCH [RANK]
#
# The text is that of ./train's template "none", so that both sides see the same tokens.
# Needs torch, transformers, trl, peft, datasets.
import json
import resource
import sys
import time


def prompts(path):
    return [{"prompt": r["instruction"] + "\n" + (r["input"] + "\n" if r["input"] else ""),
             "completion": r["output"]} for r in json.load(open(path))]


def train(model, path, batch, rank=0):
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer
    torch.set_num_threads(2)
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.pad_token = tokenizer.eos_token
    how = SFTConfig(output_dir="trl", use_cpu=True, bf16=False, fp16=False, num_train_epochs=1,
                    per_device_train_batch_size=int(batch), learning_rate=1e-4, weight_decay=0.1,
                    adam_beta2=0.95, optim="adamw_torch_fused", lr_scheduler_type="cosine",
                    completion_only_loss=True, gradient_checkpointing=False, save_strategy="no",
                    report_to=[], logging_strategy="no", disable_tqdm=True, dataloader_pin_memory=False,
                    dataset_num_proc=None, seed=1)
    lora = None
    if int(rank):
        from peft import LoraConfig
        lora = LoraConfig(r=int(rank), lora_alpha=16, target_modules="all-linear", fan_in_fan_out=True,
                          task_type="CAUSAL_LM")

    class Clock(TrainerCallback):      # a step's time, from its beginning to the end of the update
        seconds = []

        def on_step_begin(self, *_, **__):
            self.start = time.perf_counter()

        def on_step_end(self, *_, **__):
            self.seconds.append(time.perf_counter() - self.start)

    trainer = SFTTrainer(AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32), args=how,
                         train_dataset=Dataset.from_list(prompts(path)), processing_class=tokenizer,
                         callbacks=[Clock()], peft_config=lora)
    tokens = sum(len(r["input_ids"]) for r in trainer.train_dataset)
    trainer.train()
    print(json.dumps({"what": f"TRL{' LoRA ' + rank if lora else ''}, one epoch", "value": sum(Clock.seconds),
                      "unit": "s", "tokens": tokens,
                      "resident_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}))


train(*sys.argv[1:])
