# epoch.py -- what the log of ./train says of its steps, as the line of JSON that rows.py prints for TRL.
#
#   python dev/peers/epoch.py LOG NAME
import json
import sys

lines = [json.loads(l) for l in open(sys.argv[1])]
steps = [l for l in lines if "tokens" in l]
print(json.dumps({"what": sys.argv[2], "value": steps[-1]["seconds"], "unit": "s",
                  "tokens": sum(s["tokens"] for s in steps)}))
