"""One file per family, each with an Encoder and a Decoder; this file maps a layout to them."""

from torch import nn

from transvae.config import AutoencoderConfig, CNNLayout, SwinLayout, TransVAELayout, ViTLayout
from transvae.families import cnn, swin, transvae, vit


def build_encoder(config: AutoencoderConfig) -> nn.Module:
    """Encoder (B, 3, H, W) -> (B, 2d, H/f, W/f). Its `moments` is the convolution that makes the output."""
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


def build_decoder(config: AutoencoderConfig) -> nn.Module:
    """Decoder (B, d, H/f, W/f) -> (B, 3, H, W)."""
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
