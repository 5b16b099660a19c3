"""fhirclient: SMART authorization, the patient, and a whole EHI export by the client's session; each
downloaded resource is read into the client's models, which check it."""
import collections
import json
import os
import time

from fhirclient import client
from fhirclient.models.fhirelementfactory import FHIRElementFactory

server, patient = os.environ["SERVER"], os.environ["PATIENT"]
smart = client.FHIRClient(settings={
    "app_id": "test_client_id", "api_base": server + "/fhir", "redirect_uri": "http://127.0.0.1:3000/",
    "scope": "patient/*.rs patient/$ehi-export offline_access",
})
browser = smart.server.session.get(
    smart.authorize_url + f"&_patient={patient}&_auth_success=1", allow_redirects=False)
smart.handle_callback(browser.headers["Location"])
assert smart.reauthorize(), "the refresh token gives no token"
assert smart.patient.id == patient, smart.patient.id

api = smart.server
kick_off = api.post_json(f"Patient/{patient}/$ehi-export", {"resourceType": "Parameters"})
status = kick_off.headers["Content-Location"]
while not api.request_data(status):  # the manifest, or the empty body of a 202
    time.sleep(float(os.environ["PACE"]))

counts, files = collections.Counter(), 0
for output in api.request_json(status)["output"]:
    files += 1
    for line in api.request_data(output["url"]).splitlines():
        resource = json.loads(line)
        FHIRElementFactory.instantiate(resource["resourceType"], resource)
        counts[resource["resourceType"]] += 1
api.delete_json(status)
print(json.dumps({"counts": counts, "files": files, "patient": smart.patient_id}))
