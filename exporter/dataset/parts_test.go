package dataset_test

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
)

// diary is a table without a primary key.
func diary(path, more string) string {
	return `{"resources": [{"name": "diary", "path": ` + path + `, "ehi:patient": ["patient"], ` +
		more + `"schema": {"fields": [{"name": "patient"}, {"name": "text"}]}}]}`
}

// entriesOf returns how often each entry of the diary is stored for a patient.
func entriesOf(t fataler, rows []string) map[string]int {
	out := map[string]int{}
	for _, table := range rows {
		name, lines, _ := strings.Cut(table, " ")
		if name != "diary" {
			t.Fatal("unexpected table ", name)
		}
		_, lines, _ = strings.Cut(lines, " ") // the patient
		for line := range strings.Lines(lines) {
			out[line]++
		}
	}
	return out
}

// Equal rows of a table without a primary key are as many as its parts have together, whichever
// part comes first, and however often each comes: the parts of a table of an export, which are in
// several archives, or the files of a path.
func TestEqualRowsOfPartsOfATableAreCounted(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	for round := range 12 {
		want := map[string]int{}
		var parts [3]string
		for i := range 90 {
			row := fmt.Sprintf("a,entry %d\n", random.IntN(6))
			want[row]++
			parts[i/30] += row
		}
		const header = "patient,text\n"
		dir := t.TempDir()
		files := map[string]string{"p.ndjson": `{"resourceType":"Patient","id":"a"}` + "\n"}
		var folders []string
		for i, part := range parts {
			if round%2 == 0 { // as archives
				at := fmt.Sprintf("native-%d/", i+1)
				folders = append(folders, filepath.Join(dir, at))
				files[at+"tables/diary.csv"] = header + part
				files[at+"datapackage.json"] = diary(`"tables/diary.csv"`,
					fmt.Sprintf(`"ehi:part": {"of": "job-0", "number": %d}, `, i+1))
				continue
			}
			if i == 0 {
				part = header + part
			}
			files[fmt.Sprintf("%d.csv", i)] = part
			files["datapackage.json"] = diary(`["0.csv", "1.csv", "2.csv"]`, "")
		}
		fill(t, dir, files)
		s := openStore(t, t.TempDir())
		if round%2 == 0 {
			random.Shuffle(len(folders), func(i, j int) {
				folders[i], folders[j] = folders[j], folders[i]
			})
			for _, folder := range append(folders, folders[0]) {
				load(t, s, folder)
			}
		}
		load(t, s, dir)
		if got := entriesOf(t, rowsOf(t, s, "a")); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("round %d: got %v, want %v", round, got, want)
		}
		// the whole table in one file, and the same parts from elsewhere, have no other rows
		whole := folder(t, map[string]string{
			"diary.csv":        header + strings.Join(parts[:], ""),
			"datapackage.json": diary(`"diary.csv"`, ""),
		})
		elsewhere := t.TempDir()
		fill(t, elsewhere, files)
		load(t, s, whole)
		load(t, s, elsewhere)
		if got := entriesOf(t, rowsOf(t, s, "a")); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("round %d: again: got %v, want %v", round, got, want)
		}
	}
}
