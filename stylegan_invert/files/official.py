"""Checksums of official files that are programs, by which they are recognised before they are run."""

VGG16_SHA256 = "b437eb095feaeb0b83eb3fa11200ebca4548ee39a07fb944a417ddc516cc07c3"
"""The SHA-256 of NVIDIA's vgg16.pt (stylegan2-ada-pytorch/pretrained/metrics), a TorchScript program of LPIPS.

NVIDIA publishes none. Two public projects that download this file from NVIDIA give this value, independently of each
other: the file models/perceptual_model.py of a GAN library, and the download script of an inpainting benchmark.
"""
