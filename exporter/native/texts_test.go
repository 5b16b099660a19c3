package native_test

import (
	"mime"
	"reflect"
	"slices"
	"testing"

	"ehi-server/exporter/native"
	"ehi-server/exporter/source"
	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
)

// EHI-9: a document stays if any text that is known about it names something withheld, or is a
// sensitive code: a field that is new is none that is not looked at.
func TestEHI9EachTextOfADocumentIsLookedAt(t *testing.T) {
	unlisted := []string{"ID", "Patient", "Sum", "Path"} // no list and no header has them
	judge := func(of string, change func(d *source.Document)) {
		t.Helper()
		d := document(t, "", "scan.pdf", []byte("x"))
		change(d)
		v, err := native.NewRelease(strict{}, nil).Document(d, false)
		if err != nil || v != native.Stays {
			t.Errorf("a document with a secret as %s: %v, %v", of, v, err)
		}
	}
	for _, secret := range []string{secretID, "B20"} {
		typ := reflect.TypeFor[source.Document]()
		for i := range typ.NumField() {
			field := typ.Field(i)
			if slices.Contains(unlisted, field.Name) ||
				field.Name == "Related" && secret != secretID ||
				field.Name == "Resource" && secret != secretID {
				continue
			}
			set := func(what reflect.Value) func(d *source.Document) {
				return func(d *source.Document) { reflect.ValueOf(d).Elem().Field(i).Set(what) }
			}
			codings := []fhir.Coding{{System: secret}, {Code: secret}, {Display: secret}}
			switch of := field.Type; of {
			case reflect.TypeFor[string](), reflect.TypeFor[ehi.Category]():
				judge(field.Name, set(reflect.ValueOf(secret).Convert(of)))
			case reflect.TypeFor[[]string]():
				judge(field.Name, set(reflect.ValueOf([]string{"Condition/x", secret})))
			case reflect.TypeFor[fhir.Coding]():
				for _, c := range codings {
					judge(field.Name, set(reflect.ValueOf(c)))
				}
			case reflect.TypeFor[[]fhir.Coding]():
				for _, c := range codings {
					judge(field.Name, set(reflect.ValueOf([]fhir.Coding{{Code: "x"}, c})))
				}
			}
		}
		judge("a parameter of its type", func(d *source.Document) {
			d.ContentType = `application/pdf; name="` + secret + `"`
		})
		judge("a parameter of no valid type", func(d *source.Document) {
			d.ContentType = `application/pdf;; name=` + secret
		})
	}
}

// EHI-9: a document stays if its name or title has a sensitive code as a word, whatever is beside
// it. Parts of other words, of UUIDs and of LOINC codes are no codes.
func TestEHI9ACodeIsFoundInANameBetweenAnyBorders(t *testing.T) {
	for name, stays := range map[string]bool{
		"B20.pdf": true, "B20_HIV.pdf": true, "B20-report.pdf": true, "B20 HIV.pdf": true,
		"report_B20.pdf": true, "scan.B20.pdf": true, "2024-03-01 (B20), p. 2.pdf": true,
		"Befund\u2013B20": true, "x+B20=y": true, "note 86406008.txt": true, "B20.9-x.pdf": true,
		"AB20.pdf": false, "B201.pdf": false, "report.pdf": false, "86406008-5.pdf": false,
		"1f0c2b3a-b200-4b20-8b20-0123456789ab.pdf": false, "LOINC 1234-5.txt": false,
		"e11.9 B2 0.pdf": false, "": false,
	} {
		for as, set := range map[string]func(d *source.Document){
			"name":  func(d *source.Document) { d.Name = name },
			"title": func(d *source.Document) { d.Title = name },
			"parameter": func(d *source.Document) {
				d.ContentType = mime.FormatMediaType("application/pdf",
					map[string]string{"name": name})
			},
		} {
			d := document(t, "", "scan.pdf", []byte("x"))
			set(d)
			v, err := native.NewRelease(strict{}, nil).Document(d, false)
			if err != nil || stays != (v == native.Stays) {
				t.Errorf("%q as %s: %v, %v", name, as, v, err)
			}
		}
	}
}
