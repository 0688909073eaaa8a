"""``python -m paddlevideo_skel <command> …``"""
from .cli import command_line

command_line()
