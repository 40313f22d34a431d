"""The trainer, inside each worker: ``ElasticTrainer`` and what it is made of."""
