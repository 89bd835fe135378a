"""The run writer is sentikit.runs.writer; removed with the next commit."""
