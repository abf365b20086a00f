"""Runtimes: what runs exported files. One file each: conversion, quantization, session."""
