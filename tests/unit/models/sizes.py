"""Sizes at which every model of the zoo trains in milliseconds on a CPU."""

SMALL = {
    "bert": {
        "vocabulary_size": 50,
        "context": 16,
        "width": 16,
        "num_layers": 2,
        "num_heads": 2,
        "dropout": 0.0,
        "example_length": 8,
    },
    "char_gpt": {"vocabulary_size": 20, "context": 8, "width": 16, "num_heads": 2},
    "deepspeech2": {"num_frequencies": 33, "channels": 4, "width": 16, "num_layers": 2}
    | {"example_frames": 40},
    "digits": {"width": 4, "hidden": 16},
    "gpt2": {"vocabulary_size": 50, "context": 8, "width": 16, "num_layers": 2, "num_heads": 2}
    | {"dropout": 0.0},
    "inception3": {"width": 0.05, "num_classes": 5, "dropout": 0.0},
    "resnet50": {"depths": (1, 1, 1, 1), "width": 4, "num_classes": 5, "image_side": 32},
    "vgg16": {"width": 4, "hidden": 32, "num_classes": 5, "image_side": 32, "dropout": 0.0},
}
SMALL["bert_classifier"] = SMALL["bert"]
