"""One file per family, each with an Encoder and a Decoder; this file maps a layout to them."""

from torch import Tensor, nn

from transvae.config import AutoencoderConfig, CNNLayout, SwinLayout, TransVAELayout, ViTLayout
from transvae.families import cnn, representation, swin, transvae, vit
from transvae.representation import RAEDecoder, RAEEncoder, SVAEDecoder, SVAEEncoder


def build_encoder(config: AutoencoderConfig) -> nn.Module:
    """Encoder (B, 3, H, W) -> (B, 2d, H/f, W/f). Its `moments` makes the output, except in RAE."""
    layout, latent_dim, resolution = config.encoder, config.latent_dim, config.resolution
    match layout:
        case TransVAELayout():
            return transvae.Encoder(layout, latent_dim, resolution)
        case CNNLayout():
            return cnn.Encoder(layout, latent_dim)
        case ViTLayout():
            return vit.Encoder(layout, latent_dim, resolution)
        case SwinLayout():
            return swin.Encoder(layout, latent_dim)
        case SVAEEncoder():  # and PSVAEEncoder
            return representation.Encoder(layout, latent_dim)
        case RAEEncoder():
            return representation.FeatureEncoder(layout)
    raise TypeError(f"{type(layout).__name__} is no layout of an encoder")


def build_decoder(config: AutoencoderConfig) -> nn.Module:
    """Decoder (B, d, H/f, W/f) -> (B, 3, H, W). See `last_decoder_layer`."""
    layout, latent_dim, resolution = config.decoder, config.latent_dim, config.resolution
    match layout:
        case TransVAELayout():
            return transvae.Decoder(layout, latent_dim, resolution)
        case CNNLayout():
            return cnn.Decoder(layout, latent_dim)
        case ViTLayout():
            return vit.Decoder(layout, latent_dim, resolution)
        case SwinLayout():
            return swin.Decoder(layout, latent_dim)
        case SVAEDecoder() | RAEDecoder():  # and PSVAEDecoder
            return representation.Decoder(layout, latent_dim)
    raise TypeError(f"{type(layout).__name__} is no layout of a decoder")


def last_encoder_layer(encoder: nn.Module) -> nn.Parameter:
    """The weight of the last convolution before the moments' channels: VA-VAE's conv_out.

    In the CNN that is the head's, because its 1x1 "quant" convolution comes after conv_out; elsewhere `moments`.
    RAE has a frozen network alone: its final norm.
    """
    if isinstance(encoder, representation.FeatureEncoder):
        final = encoder.trunk.vit.norm.weight  # type: ignore[union-attr]
        assert isinstance(final, nn.Parameter)
        return final
    return _last_convolution(encoder.head if isinstance(encoder, cnn.Encoder) else encoder.moments)


def last_decoder_layer(decoder: nn.Module) -> nn.Parameter:
    """The weight of the convolution that makes the pixels."""
    if isinstance(decoder, representation.Decoder):
        assert decoder.pixels is not None, "Autoencoder asks the configuration before"
        decoder = decoder.pixels
    return _last_convolution(decoder.head)


def _last_convolution(module: nn.Module | Tensor) -> nn.Parameter:
    assert isinstance(module, nn.Module)
    weight = [part for part in module.modules() if isinstance(part, nn.Conv2d)][-1].weight
    assert isinstance(weight, nn.Parameter)
    return weight
