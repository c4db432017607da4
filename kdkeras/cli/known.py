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
        "Test model files (.keras, .tflite, SavedModel folders) on a dataset's test split.",
        "kdkeras evaluate runs/digits/student.keras runs/digits/export/student.tflite "
        "--teacher=runs/digits/teacher.keras --dataset=digits",
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
    "export": (
        "Write a student as SavedModel and .tflite, each compared with it.",
        "kdkeras export --model=runs/digits/student.keras --output=exported --precision=float16",
    ),
}
POSITIONAL = {
    "evaluate": "MODEL ...",
    "attack": "MODEL ...",
    "certify": "MODEL",
    "predict": "PICTURE ...",
}
DATA_FLAGS = ("dataset", "data_dir", "download", "image_size")
CACHE_FLAGS = (*DATA_FLAGS, "max_train", "augment", "views", "seed", "overwrite", "verbose")
# What flags mean where that differs from a recipe's.
HELP = {
    "cache": {
        "views": "how many views of each picture, 8 unless given; or all, of crops and flips",
        "seed": "seed of the views, and of the choice of images under --max_train",
        "overwrite": "replace another cache that stands there",
    }
}
# Of each command, the flags that are no recipe's: name, default, type, and what it says.
FLAGS = {
    "evaluate": (
        ("teacher", None, str, "a model file to compare with: agreement and KL"),
        (
            "corruptions",
            None,
            str,
            "also test on corrupted images: common (12 corruptions, 5 severities, made of the test "
            "split), or the folder of the CIFAR-10-C files",
        ),
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
            "file to write, with a .png beside it; the same command goes on with it",
        ),
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
        ("workdir", None, str, "a run's work directory; compares on its test images"),
        (
            "precision",
            "float32",
            str,
            "of the .tflite: float32, float16 or dynamic (8-bit weights)",
        ),
        ("formats", "saved_model,tflite", str, "comma list of what to write"),
        ("overwrite", False, bool, "replace exports that are already there"),
    ),
}
