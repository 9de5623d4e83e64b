"""Foreign configurations, read into the language of schedules: one file per format, text to text."""

from etude.convert.converted import Converted as Converted
from etude.convert.converted import formats as formats
from etude.convert.converted import read as read
from etude.convert.huggingface.arguments import training_arguments as training_arguments
from etude.convert.pytorch.objects import torch_objects as torch_objects
