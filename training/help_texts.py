"""What `--help` teaches, of `tailmoe` and of each command."""

DESCRIPTION = """\
Long-tailed image classification with mixtures of experts.

  tailmoe train quickstart                 train ICL-MoE and plain cross-entropy on images that ship with it
  tailmoe data PATH/TO/IMAGES              what is understood of a folder of images, before training
  tailmoe evaluate runs/quickstart         metrics of a trained model on its test images
  tailmoe predict runs/quickstart a.png    labels, probabilities and each expert's view
  tailmoe study quickstart --seeds 0..2    many seeds: mean and standard deviation
  tailmoe push runs/quickstart ME/MODEL    the model to the Hub, with its card
  tailmoe benchmark                        how fast this machine trains and predicts

`tailmoe COMMAND --help` explains each command.
"""

TRAIN = """\
Train a recipe into a run: a folder with weights, configuration, code, card, results and figures.

RECIPE is the name of a recipe that ships with the project ({recipes}) or a YAML file. Any key of it can be
changed with --set, as section.key=value:

  tailmoe train quickstart --set training.num_train_epochs=4
  tailmoe train quickstart --set model.num_experts=2 objective.contrast_weight=0.5
  tailmoe train quickstart --set data.name=PATH/TO/IMAGES

The data may be `fashion_mnist_lt` (ships with the project), `cifar10`, `cifar100`, `mnist`, `fashion_mnist` (from
the folder named by TAILMOE_DATA_DIR, else from the Hub), a folder of images (train/<class>/<image>), Parquet files,
a CSV file of paths and labels, a folder with train.csv or with lists such as ImageNet_LT_train.txt, or the id of any
data set on the Hub. Further keys for images of your own:

  data.streaming=true                       images of Parquet files stay on disk or the Hub until a batch needs them
  data.image_column=... data.label_column=...
  data.class_depth=2                        classes such as apple/healthy, of folders in folders
  training.train_sampler=class_balanced     or square_root: rare classes are drawn more often
  training.many_above=50 training.few_below=10    bounds of the shot groups

With training.bf16=auto, as in the recipes of CIFAR, it trains in bfloat16 where the hardware has it: 1.6 times as fast on
a CPU with AVX512_BF16.

Ctrl-C saves a checkpoint and stops; --resume continues, also after a crash, and ends where it would have ended.
On several GPUs or machines: torchrun --nproc-per-node 4 -m tailmoe.training.cli train RECIPE
"""

EVALUATE = """\
Measure a trained model: accuracy overall and balanced, of many-, medium- and few-shot classes, per expert, and its
calibration error. Shot groups are those of the images the model was trained on. Images that are given by --data are all
measured, or those of one of their splits.

  tailmoe evaluate runs/quickstart
  tailmoe evaluate runs/quickstart --data PATH/TO/IMAGES --json metrics.json
  tailmoe evaluate runs/quickstart --data PATH/TO/IMAGES --split train
  tailmoe evaluate runs/quickstart --backend onnx

With early exit the experts of an ICL-MoE are asked in order, for each image until the mean of those asked gives one class
at least the threshold's probability; told are the experts asked and the floating-point operations saved. With several
thresholds all are measured; --json then writes the record, and draws it beside.

  tailmoe evaluate runs/quickstart --early-exit-threshold 0.7
  tailmoe evaluate runs/quickstart --early-exit-threshold 0.5 0.6 0.7 0.8 0.9 --json early-exit.json
"""

PREDICT = """\
Name what is in images: the most probable labels, and what each expert and the gate made of them. Each answer is written as
soon as it is known; --json writes all of them at the end, also where an image that cannot be read or Ctrl-C ended it.

  tailmoe predict runs/quickstart shoe.png shirt.png
  tailmoe predict runs/quickstart *.png --on-bad-image skip --json predictions.json
  tailmoe predict runs/quickstart shoe.png --backend onnx
"""

STUDY = """\
Train recipes once per seed and summarise each: mean and standard deviation of every metric, of the model and of its
baseline, in OUTPUT-DIR/study.json. A baseline that another recipe of the call is, or has too, is trained once.

  tailmoe study quickstart --seeds 0..2
  tailmoe study icl-cifar100-lt-100 shike-cifar100-lt-100 cross-entropy-cifar100-lt-100 --seeds 0..2 --jobs 2 \\
      --time-limit 2h30m --json hub_cards/results

Each training is a process of its own with its share of the cores, the longest first; what it says is in
OUTPUT-DIR/seed-N.log, its last line is shown here: epoch, share done, images per second, time left. At the time limit
(or on Ctrl-C) every training saves and stops, and what is left is told. Repeat the command to go on: what is finished is
kept, what was interrupted, or killed, is resumed where it stood. A training that fails leaves the others running.

The exit status is 124 at the time limit, 1 if a training failed, 0 when all is done: a queue of limited hours may submit
the same command until it is 0.
"""

BENCHMARK = """\
Measure how fast this machine trains and predicts, each part in turn with a naive baseline, what one would write without
tailmoe, and the machine's own limit. All parts take about twenty minutes on 2 cores.

  data        from encoded images to augmented, normalised batches
  train       ICL-MoE's training step, ResNet-32 with three experts, from images to updated weights
  trainer     LongTailTrainer beside a plain loop of the same step
  losses      each loss, forward and backward
  inference   one image and 256 at a time, by torch and by ONNX Runtime
  backbones   three experts on ResNet-50, ConvNeXt V2, Swin, DINOv2, ViT beside the plain backbone
  memory      on request: memory and speed against the size of the data set, on folders like ImageNet-LT and iNaturalist 2018

  tailmoe benchmark
  tailmoe benchmark train inference --repeats 20
  tailmoe benchmark memory --json large.json       also draws it, into large-memory.png
"""

DEMO = """\
Open the demo's page on this machine: what each expert sees in an image, beside plain cross-entropy where there is a baseline.
Without MODEL it shows the pair that ships with tailmoe. Ctrl-C ends it.

  tailmoe demo
  tailmoe demo runs/quickstart
  tailmoe demo me/icl-moe-fashion-mnist-lt --baseline me/cross-entropy-fashion-mnist-lt
"""

SPACE = """\
Push the demo's page to the Hub, as a Space that shows a model there. The model is pinned to the commit that its repository
now has: repeat the command to move on. Pushing again changes nothing.

  tailmoe space me/what-each-expert-sees --model me/icl-moe-fashion-mnist-lt --baseline me/cross-entropy-fashion-mnist-lt
"""

CARD = """\
Render the card of a finished run, README.md, anew from its results and figures. Nothing else in the folder changes.

  tailmoe card runs/quickstart
  tailmoe card runs/quickstart --repo-id me/icl-moe-fashion-mnist-lt
"""

PUSH = """\
Push a finished run to the Hub: weights, configuration, image processor, modeling code, card, results and figures, as one
commit. Before anything is sent, the files are listed and the model is loaded in a clean process, where it must answer as it
does here. The repository then equals the run; pushing again changes nothing. The run itself is never changed; its baseline
is a run of its own, in RUN/baseline.

  tailmoe push runs/quickstart me/icl-moe-fashion-mnist-lt
  tailmoe push runs/quickstart/baseline me/cross-entropy-fashion-mnist-lt --private
  tailmoe push runs/quickstart me/icl-moe-fashion-mnist-lt --create-pr

A token that can write comes from `hf auth login` or HF_TOKEN.
"""

DATA = """\
Show what is understood of a data set, so that it can be checked before training: splits, classes with their images, what was
left out and why, images that are there twice. Nothing is written.

  tailmoe data PATH/TO/IMAGES

With --imbalance-factor, --output-dir or --push: make long-tailed splits of it, as Parquet files with a card that plain
`load_dataset` reads: one config for each imbalance factor, with the shot group and the number of training images of each row's
class. Without --imbalance-factor the data stays as it is. Images of CIFAR-10, CIFAR-100 and MNIST are not copied: rows tell where in their source they are, and a
script beside them puts the two together. The same command writes the same bytes.

  tailmoe data fashion_mnist --imbalance-factor 100 50 10
  tailmoe data cifar100 --imbalance-factor 100 --push me/cifar100-lt
  tailmoe data PATH/TO/IMAGES --push me/birds --private

A push is one commit that makes the repository equal to the folder. A token that can write comes from `hf auth login` or
HF_TOKEN.
"""

ABLATION = """\
Train a recipe as it is and with one thing changed at a time, and compare them in one table: without each part of the
objective, with other times and numbers of experts, with the other ways of doing the same. All is measured on images held out
from the training split, so that choices are made without the test split. Repeat the command to continue an interrupted one.

  tailmoe ablation icl-cifar100-lt-100 --seeds 0..2
  tailmoe ablation icl-cifar100-lt-100 without "number of experts" --jobs 2 --time-limit 2h30m

A short schedule misleads about a long one: choices for 200 epochs need 200 epochs.
"""

COMPARE = """\
Compare the two arms of studies whose recipe has a baseline, seed by seed: mean difference and effect size with their bootstrap
intervals, Wilcoxon's signed-rank test, corrected for the number of studies. Draws a box plot over the seeds of each study and
the similarity of its experts.

  tailmoe compare runs/snnl-mnist-study runs/snnl-fashion-mnist-study
  tailmoe compare hub_cards/results/snnl-*.json --output-dir build/compare

With n seeds the smallest possible p-value is 2 / 2^n: ten seeds for p < 0.01 on four data sets.
"""
