package server

import (
	"strings"
	"testing"
)

// BULK-2, BULK-9: Accept decides by its most specific range and weights.
func TestBULK9AcceptIsNegotiated(t *testing.T) {
	s := routed(t)
	for accept, want := range map[string]int{
		"": 200, "*/*": 200, "application/fhir+json": 200, "application/json": 200, "application/*": 200, "text/json": 200,
		"Application/FHIR+JSON; fhirVersion=4.0": 200, "application/fhir+xml, */*;q=0.1": 200, "text/html, application/fhir+json;q=0.5": 200,
		"application/fhir+xml;q=1.0, application/fhir+json;q=0.1": 200, "application/json;q=0, application/fhir+json": 200,
		"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8": 200,
		"application/fhir+xml": 406, "application/xml": 406, "text/html": 406, "image/*": 406, "application/fhir+xml, text/html": 406,
		"application/fhir+json;q=0": 406, "*/*;q=0": 406, "application/fhir+json;q=0, */*": 406, "application/fhir+json;fhirVersion=3.0": 406,
		"text/*": 406, "text/*, application/fhir+xml;q=0.5": 406, "text/*;q=0, application/json": 200, "text/json;q=0": 406,
		"image/png": 406, "text/html;q=1, */*;q=0": 406, "application/json;q=0": 406, "application/*;q=0, */*": 406,
		"application/json;q=0, */*": 200, "application/fhir+json;q=0, application/json": 406, "*/*;q=0, application/json": 200,
		"application/fhir+json;q=0.001": 200, "application/xml, text/*;q=0.2, */*;q=0.1": 200,
		"xyz": 400, "*": 400,
	} {
		a := ask(t, s, "GET", "/fhir/metadata", "Accept", accept)
		if accept == "" {
			a = ask(t, s, "GET", "/fhir/metadata")
		}
		mime := mimeFHIR
		if want == 406 && strings.Contains(accept, "text/html") { // a browser: it is told on a page
			mime = "text/html; charset=utf-8"
		}
		if a.StatusCode != want || a.Header.Get("Content-Type") != mime {
			t.Errorf("Accept %q: %d %s", accept, a.StatusCode, a.Header.Get("Content-Type"))
		}
	}
	for target, want := range map[string]int{"json": 200, "application/fhir+json": 200, "application/fhir%2Bjson": 200, "xml": 400, "application/fhir+xml": 400, "xyz": 400} {
		if a := ask(t, s, "GET", "/fhir/metadata?_format="+target, "Accept", "application/fhir+xml"); a.StatusCode != want {
			t.Errorf("_format=%s: %d", target, a.StatusCode)
		}
	}
	if a := ask(t, s, "GET", "/fhir/metadata", "Accept", "application/fhir+xml", "Accept", "application/fhir+json"); a.StatusCode != 200 {
		t.Errorf("two lines: %d", a.StatusCode)
	}
}

// EHI-10: a log-in without a body, or with one that is no log-in, is answered as any other wrong one.
func TestEHI10AnyWrongLoginIsAnsweredAlike(t *testing.T) {
	s := routed(t)
	for _, header := range [][]string{nil, {"Content-Type", "application/json"}, {"Content-Type", "application/x-www-form-urlencoded"}} {
		if a := ask(t, s, "POST", "/admin/login", header...); a.StatusCode != 401 {
			t.Errorf("%v: %d", header, a.StatusCode)
		}
	}
}
