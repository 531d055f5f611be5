"""Records of a trial, as its loop writes them."""


def step(journal, number, **fields):
    journal.append("step", step=number, images=number * 8, flops=1.0, metrics={"train/loss": 1 / number}, **fields)


def validate(journal, number, psnr):
    journal.append("validated", step=number, images=number * 8, flops=1.0, metrics={"val/psnr": psnr})
    journal.append("pictures", step=number, path=f"pictures/{number}.png", psnr=[psnr])
    journal.append("set_pictures", set="coco", step=number, path=f"pictures/{number}_coco.png", psnr=[psnr])
    journal.append("checkpoint", step=number, sha256="0", best_step=number)


def start(journal, resumed_from=0):
    journal.append("started", step=resumed_from, resumed_from=resumed_from, world=1, device="cpu", lineage={})
