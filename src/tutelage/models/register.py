"""Tells transformers' Auto classes of our architectures, and which file to copy beside a saved model."""

from __future__ import annotations

import transformers

from . import echo_attention, one_pass, resnet

IMAGES, LANGUAGE, TOKENS = "AutoModelForImageClassification", "AutoModelForCausalLM", "AutoModelForTokenClassification"

for config, model, auto in (
    (resnet.ConvNetConfig, resnet.ConvNetForImageClassification, IMAGES),
    (echo_attention.EchoConfig, echo_attention.EchoForCausalLM, LANGUAGE),
    (one_pass.OnePassConfig, one_pass.OnePassModel, TOKENS),
):
    config.register_for_auto_class()
    model.register_for_auto_class(auto)
    transformers.AutoConfig.register(config.model_type, config, exist_ok=True)
    getattr(transformers, auto).register(config, model, exist_ok=True)
transformers.AutoModel.register(one_pass.OnePassConfig, one_pass.OnePassModel, exist_ok=True)
transformers.AutoModel.register(echo_attention.EchoConfig, echo_attention.EchoModel, exist_ok=True)
