"""The commands and their flags: what they are called, what they mean, and an example of each."""

COMMANDS = {
    "distill": (
        "Train or load a teacher, train the control and the student, test all, export the student.",
        "kdkeras distill --dataset=digits --temperature=4 --alpha=0.1 --workdir=runs/digits",
    ),
    "train": (
        "Train a teacher alone.",
        "kdkeras train --dataset=digits --teacher=resnet20 --workdir=runs/teacher",
    ),
    "cache": (
        "Record what a teacher says of the training images, for students to learn from.",
        "kdkeras cache --dataset=digits --teacher=runs/digits/teacher.keras --views=8 "
        "--output=teacher.cache",
    ),
    "evaluate": (
        "Test model files (.keras, .tflite, .onnx, SavedModel folders), or all of a run's.",
        "kdkeras evaluate runs/digits/student.keras runs/digits/export/student.tflite "
        "--teacher=runs/digits/teacher.keras --control=runs/digits/control.keras --details",
    ),
    "report": (
        "Show what a run found, or compare runs: one HTML file that needs nothing else.",
        "kdkeras report runs/digits",
    ),
    "search": (
        "Find the settings with which a student becomes best, and compare them with those given.",
        "kdkeras search --dataset=digits --trials=20 --workdir=runs/search "
        "--space='temperature=1:16:log alpha=0:0.9 method=hinton|dkd|dist'",
    ),
    "attack": (
        "Attack models within epsilon, and say whether the figures can be believed.",
        "kdkeras attack runs/digits/student.keras --dataset=digits --epsilon=8/255",
    ),
    "certify": (
        "Certify a model by noise: radii within which its class cannot change.",
        "kdkeras certify runs/noise/student.keras --dataset=digits --sigma=0.25",
    ),
    "predict": (
        "Say the class and probability of pictures.",
        "kdkeras predict photo1.png photo2.jpg --model=runs/digits/export/student.tflite",
    ),
    "quantize": (
        "Train a run's student further, against its teacher, for an int8 .tflite that is as good.",
        "kdkeras quantize --workdir=runs/digits --epochs=5",
    ),
    "export": (
        "Write a student as SavedModel, .tflite and ONNX, each run, compared and timed.",
        "kdkeras export --workdir=runs/digits --precision=all",
    ),
}
POSITIONAL = {
    "evaluate": "MODEL ... | RUN ...",
    "report": "RUN ...",
    "attack": "MODEL ...",
    "certify": "MODEL",
    "predict": "PICTURE ...",
}
DATA_FLAGS = ("dataset", "data_dir", "download", "image_size")
CACHE_FLAGS = (*DATA_FLAGS, "max_train", "augment", "views", "seed", "overwrite", "resume", "quiet")
# Of what goes on in any case.
RESUME = "go on with what a stopped command left, as the same command does without it"
# What flags mean where that differs from a recipe's.
HELP = {
    "search": {
        "workdir": "where results go; runs/<dataset>-search unless given",
        "overwrite": "replace the search that the work directory holds",
        "resume": f"{RESUME}; settings that are not given are those of the search there",
    },
    "cache": {
        "views": "how many views of each picture, 8 unless given; or all, of crops and flips",
        "seed": "seed of the views, and of the choice of images under --max_train",
        "overwrite": "replace another cache that stands there",
        "resume": RESUME,
    },
}
QUIET = ("quiet", False, bool, "show no progress: warnings and the results alone")
# Of each command, the flags that are no recipe's: name, default, type, and what it says.
FLAGS = {
    "evaluate": (
        (
            "dataset",
            None,
            str,
            "digits, the name of a tensorflow_datasets image-classification set, or folder:PATH; "
            "unless given that of a run, and digits for model files",
        ),
        ("data_dir", None, str, "where tensorflow_datasets finds prepared sets; the run's own"),
        ("download", False, bool, "download a tensorflow_datasets set that is not there yet"),
        (
            "image_size",
            None,
            int,
            "side of the square images; the run's own, or of model files that of the first for a "
            "folder, 16 for digits, and a tensorflow_datasets set's own",
        ),
        (
            "teacher",
            None,
            str,
            "a model file to compare with: agreement, KL, and CKA of features; a run's own",
        ),
        (
            "control",
            None,
            str,
            "a model file that each model is compared with: difference in accuracy, its 95 % "
            "interval, McNemar's p; a run's own",
        ),
        ("details", False, bool, "also figures of each class, confusions, and more intervals"),
        ("latency", False, bool, "also time each model: one image on one thread"),
        ("output", None, str, "a .json file for all of it, in full"),
        ("overwrite", False, bool, "replace that file if it is there"),
        QUIET,
        (
            "corruptions",
            None,
            str,
            "also test on corrupted images: common (12 corruptions, 5 severities, made of the test "
            "split), or the folder of the CIFAR-10-C files",
        ),
    ),
    "report": (
        (
            "output",
            None,
            str,
            "the file to write: report.html in the work directory unless given; of several runs it "
            "is needed",
        ),
        ("overwrite", False, bool, "replace another file that stands there"),
        (
            "pictures",
            True,
            bool,
            "show the pictures on which teacher and student disagree most, for which the run's "
            "data and models are read",
        ),
    ),
    "search": (
        ("trials", 20, int, "how many trials; pruned and failed ones count"),
        ("minutes", None, float, "or how long trials may take, all together; what ends first"),
        (
            "space",
            None,
            str,
            "what varies: name=low:high, name=low:high:log or name=a|b|c, with spaces between "
            "(docs/guide.md); temperature, alpha and learning_rate unless given",
        ),
        (
            "objective",
            "accuracy",
            str,
            "on validation images: accuracy, mixed (and robust accuracy), or pareto (accuracy, and "
            "few parameters)",
        ),
        ("robust_weight", 0.5, float, "of mixed: the robust accuracy's share"),
        ("robust_epsilon", 8 / 255, float, "of mixed: the attack's epsilon, in pixels of [0, 1]"),
        (
            "compare_seeds",
            3,
            int,
            "from how many seeds the best is compared, on test images, with the settings given",
        ),
        ("storage", None, str, "URL of a database; study.db in the work directory unless given"),
    ),
    "attack": (
        (
            "epsilon",
            None,
            float,
            "largest change, in pixels of [0, 1]: 0.03, or 8/255; of each pixel (linf, 8/255 "
            "unless given), or of the whole image (l2)",
        ),
        ("norm", "linf", str, "linf or l2"),
        (
            "suite",
            "standard",
            str,
            "quick (PGD-20), standard (and PGD-100 with 5 restarts), or full (and APGD and Square: "
            "pip install 'kdkeras[robustness]')",
        ),
        ("max_images", 1000, int, "attack so many test images, evenly spaced"),
        ("surrogate", None, str, "for .tflite files: the .keras file that attacks are made on"),
        ("seed", 0, int, "seed of noise and of random starts"),
        ("batch_size", 200, int, "images that are attacked at a time"),
        (
            "output",
            None,
            str,
            "folder of the reports, with one folder a model; attack/ beside the model unless given",
        ),
        ("overwrite", False, bool, "replace reports on other models or settings, or begin again"),
        ("resume", False, bool, RESUME),
    ),
    "certify": (
        ("sigma", 0.25, float, "standard deviation of the noise, in pixels of [0, 1]"),
        ("n", 10_000, int, "noisy copies of an image, from which its radius is worked out"),
        ("n0", 100, int, "noisy copies of an image, from which its class is chosen"),
        ("alpha", 0.001, float, "probability that a certificate is wrong, of each image"),
        ("max_images", 100, int, "certify so many test images, evenly spaced"),
        ("seed", 0, int, "seed of the noise"),
        ("batch_size", 1000, int, "noisy copies that the model sees at a time"),
        (
            "output",
            "certificates.json",
            str,
            "file to write, with a .png beside it",
        ),
        ("resume", False, bool, RESUME),
    ),
    "cache": (
        ("teacher", None, str, "the teacher's .keras file"),
        ("output", "teacher.cache", str, "the file to write"),
        ("shard", None, str, "i/n: fill part i of n only; the last process joins the n parts"),
        ("layers", None, str, "comma list of the teacher's layers to record as well"),
        ("batch_size", 256, int, "pictures that the teacher sees at a time"),
    ),
    "predict": (
        ("model", None, str, "the model file: .keras, .tflite or a SavedModel folder"),
        (
            "labels",
            None,
            str,
            "text file, a class name a line; labels.txt near the model if not given",
        ),
        ("top", 3, int, "how many classes to name for each picture"),
    ),
    "export": (
        ("model", None, str, "the student's .keras file; student.keras of --workdir if not given"),
        ("output", None, str, "folder to write to; export/ of --workdir if not given"),
        (
            "workdir",
            None,
            str,
            "a run's work directory: the files are tested on its test images and calibrated on its "
            "training images",
        ),
        ("dataset", None, str, "test and calibrate on this dataset's images, not the run's"),
        ("data_dir", None, str, "where tensorflow_datasets finds prepared sets"),
        ("download", False, bool, "download a tensorflow_datasets set that is not there yet"),
        (
            "precision",
            "float32",
            str,
            "of the .tflite, a comma list of float32, float16, dynamic (8-bit weights), int8, "
            "int16x8; or all, and ONNX with them where it is installed",
        ),
        (
            "formats",
            "saved_model,tflite",
            str,
            "comma list of what to write: saved_model, tflite, onnx (pip install 'kdkeras[onnx]')",
        ),
        (
            "pixels",
            None,
            str,
            "what goes in: float32 in 0..1, uint8 in 0..255 (a camera's), or int8 (the same less "
            "128) of int8 files; unless given uint8 for int8 and float32 for others",
        ),
        ("logits", False, bool, "files give logits, not probabilities"),
        ("latency", True, bool, "also time each file, the student and the teacher"),
        (
            "calibration_images",
            256,
            int,
            "training images that int8's ranges are measured on: 16 to all of them",
        ),
        ("seed", 0, int, "seed of their choice"),
        ("overwrite", False, bool, "replace exports that are already there"),
        (
            "resume",
            False,
            bool,
            "go on with what a stopped command left: its files that are whole stay",
        ),
        QUIET,
    ),
    "quantize": (
        ("workdir", None, str, "the work directory of a finished run"),
        ("data_dir", None, str, "where tensorflow_datasets finds prepared sets"),
        ("epochs", 5, int, "epochs of training with rounded weights and activations"),
        ("learning_rate", 3e-4, float, "peak learning rate, of Adam"),
        (
            "calibration_images",
            256,
            int,
            "training images that ranges are first measured on: 16 to all of them",
        ),
        ("pixels", "uint8", str, "what goes into the file: uint8, int8 or float32"),
        ("logits", False, bool, "the file gives logits, not probabilities"),
        ("overwrite", False, bool, "replace an int8 export and a quantized.keras that are there"),
        ("resume", False, bool, "go on with what a stopped command left"),
        QUIET,
    ),
}
