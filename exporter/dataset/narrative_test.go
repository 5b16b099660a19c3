package dataset_test

import (
	"fmt"
	"strings"
	"testing"

	"ehi-server/exporter/dataset"
)

// IN-1: a Binary that a narrative shows or links to belongs to the record, in any order. The
// narrative is unchanged (IN-6), and its missing targets do not make the record incomplete.
func TestIN1WhatANarrativeShowsGoesWithIt(t *testing.T) {
	dir := t.TempDir()
	binaries := write(t, dir, "binaries.ndjson",
		`{"resourceType":"Binary","id":"b","data":"eA=="}`,
		`{"resourceType":"DocumentReference","id":"d",`+
			`"content":[{"attachment":{"url":"Binary/deep"}}]}`,
		`{"resourceType":"Binary","id":"deep","data":"eA=="}`,
		`{"resourceType":"Patient","id":"q"}`, `{"resourceType":"Practitioner","id":"l"}`,
		`{"resourceType":"Binary","id":"theirs","securityContext":{"reference":"Patient/q"},`+
			`"data":"eA=="}`)
	var lines []string
	want := map[string][]string{}
	for div, shown := range map[string][]string{
		`<img src="Binary/b"/>`:                              {"Binary/b"},
		`<img alt='x' src = 'Binary/b' />`:                   {"Binary/b"},
		"<p>a</p><img\nsrc=\"Binary/b/_history/2\"/>":        {"Binary/b"},
		`<img src="https://ehr.example.org/r4/Binary/b#p"/>`: {"Binary/b"},
		`<img src="&#66;inary/b"/>`:                          {"Binary/b"},
		`<img src="#x"/><a href="DocumentReference/d">x</a>`: {
			"DocumentReference/d", "Binary/deep",
		},
		`<a href="DocumentReference/d"><img src="Binary/b"></a>`: {
			"DocumentReference/d", "Binary/deep", "Binary/b",
		},
		`<img src="Binary/missing"/><img src="Binary/theirs"/>`: nil,
		`<img src="https://other.example.org/r4/Binary/b"/>`:    nil,
		`<img data-src="Binary/b"/> src=Binary/b href`:          nil,
		`<a href="Practitioner/l">x</a>`:                        nil,
		`Binary/b src = "`:                                      nil,
	} {
		for i, field := range []string{
			`"text":{"status":"generated","div":%s}`, `"section":[{"text":{"div":%s}}]`,
			`"contained":[{"resourceType":"Basic","id":"x","text":{"div":%s}}]`, `"title":%s`,
		} {
			p := fmt.Sprint("p", len(want))
			text := strings.ReplaceAll(quoted("<div>"+div+"</div>"), "\n", `\n`)
			if strings.HasSuffix(div, "</a>") {
				text = strings.NewReplacer("<", `\u003c`, "r", `\u0072`).Replace(text)
			}
			want[p] = []string{"Patient/" + p, "Composition/c" + p}
			if i < 3 {
				want[p] = append(want[p], shown...)
			}
			lines = append(lines, `{"resourceType":"Patient","id":"`+p+`"}`, fmt.Sprintf(
				`{"resourceType":"Composition","id":"c%s","subject":{"reference":"Patient/%s"},`+
					field+`}`, p, p, text))
		}
	}
	inBothWith(t, []string{"https://ehr.example.org/r4"}, func(t *testing.T, s *dataset.Store) {
		for p, keys := range want {
			out := wantKeys(t, s, p, keys...)
			rec, err := s.Open(t.Context(), p)
			if err != nil {
				t.Fatal(err)
			}
			if !rec.Complete() {
				t.Errorf("%s is not complete: %v", p, out)
			}
			if err := rec.Close(); err != nil {
				t.Error(err)
			}
		}
		all := strings.Join(everything(t, s), "\n")
		for _, line := range lines {
			if !strings.Contains(all, line) {
				t.Errorf("%s has changed", line)
			}
		}
	}, binaries, write(t, dir, "patients.ndjson", lines...))
}
