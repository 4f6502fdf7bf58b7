"""How a Trainer evaluates and predicts."""

from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import Trainer
from transformers.trainer_utils import EvalLoopOutput, PredictionOutput

from tailmoe.training.trainer.metrics import rows_once, share_statistics
from tailmoe.training.trainer.splits import loaded, loaded_to_predict


class EvaluatingTrainer(Trainer):
    """Takes splits as `LongTailTrainer` does; processes that share them hold the same model and count every image once."""

    def evaluate(self, eval_dataset: object = None, *args, **kwargs) -> dict[str, float]:
        """As in transformers, of any split that the constructor takes."""
        return super().evaluate(loaded(eval_dataset, self.processing_class, self.args), *args, **kwargs)

    def predict(self, test_dataset: object, *args, **kwargs) -> PredictionOutput:
        """As in transformers, of any split that the constructor takes, and of images without labels."""
        return super().predict(loaded_to_predict(test_dataset, self.processing_class, self.args), *args, **kwargs)

    def evaluation_loop(self, dataloader: DataLoader, *args, **kwargs) -> EvalLoopOutput:
        """As in transformers, by processes that hold the same model."""
        share_statistics(self.model, self.accelerator)
        return super().evaluation_loop(dataloader, *args, **kwargs)

    def prediction_step(self, model: nn.Module, inputs: dict[str, Tensor], *args, **kwargs) -> tuple:
        """As in transformers; what other processes have of the batch is not computed, it would count twice in the loss."""
        inputs = self.batches.finish(inputs)
        rows = rows_once(self.accelerator, len(inputs["pixel_values"]))
        if rows is None:
            return super().prediction_step(model, inputs, *args, **kwargs)
        own = {name: values[:rows] for name, values in inputs.items()}
        loss, logits, labels = super().prediction_step(model, own, *args, **kwargs)
        if logits is None:
            return loss, None, None
        # as many rows of each process are gathered; those that are added here are left out afterwards
        return loss, *self.accelerator.pad_across_processes((logits, labels))
