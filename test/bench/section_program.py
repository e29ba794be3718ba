def run(bench, reports): pass
