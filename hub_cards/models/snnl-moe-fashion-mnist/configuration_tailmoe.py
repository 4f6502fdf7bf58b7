"""What both configurations share."""

from transformers import PreTrainedConfig

OF_EACH_CLASS = ("class_counts", "label_prior")


class TailMoEConfig(PreTrainedConfig):
    """A configuration whose fields about classes follow its labels.

    With another number of labels, as of `from_pretrained(folder, num_labels=3)`, the model learns other classes: counts and
    prior of the classes before are no longer known, nor what training added to the logits.
    """

    def __setattr__(self, name: str, value: object) -> None:
        before = getattr(self, "id2label", None) if name == "id2label" else None
        super().__setattr__(name, value)
        if before is None or value is None or len(before) == len(value):
            return
        self.label2id = {label: int(index) for index, label in value.items()}
        for field in OF_EACH_CLASS:
            known = getattr(self, field, None)
            if known is not None and len(known) != len(value):
                setattr(self, field, None)
        self.training_logit_adjustment = None
