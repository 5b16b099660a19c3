package source_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ehi-server/exporter/source"
	"ehi-server/shared/ehi"
	"ehi-server/shared/fhir"
)

// groups is a store of Groups, each of references to its members, with further fields.
func groups(extra map[string]string, of map[string][]string) source.Groups {
	read := func(id string) ([]byte, error) {
		references, known := of[id]
		if !known {
			return nil, ehi.Errorf(ehi.NotFound, "Group not found")
		}
		var members []string
		for _, r := range references {
			members = append(members, `{"entity":{"reference":"`+r+`"}}`)
		}
		return []byte(`{"resourceType":"Group","type":"person"` + extra[id] + `,"member":[` +
			strings.Join(members, ",") + `]}`), nil
	}
	return source.Groups{Read: read}
}

func TestGroupsTakeInTheGroupsWithinThem(t *testing.T) {
	of := map[string][]string{
		"outer":   {"Patient/p2", "Group/inner", "Group/absent", "Group/retired", "Group/devices"},
		"inner":   {"Patient/p1", "Patient/p2", "Group/outer", "Group/inner", "Device/d"},
		"retired": {"Patient/p3"},
		"devices": {"Device/d"},
	}
	extra := map[string]string{"retired": `,"active":false`, "devices": `,"type":"device"`}
	m, err := source.Members(groups(extra, of), "outer", time.Now())
	want := source.Membership{
		Patients: []string{"p1", "p2"},
		Groups:   []string{"devices", "inner", "outer", "retired"},
	}
	if d := cmp.Diff(want, m); d != "" || err != nil {
		t.Error(d, err)
	}
}

func TestMembersMayBeNamedByTheirIdentifier(t *testing.T) {
	g := source.Groups{Read: func(string) ([]byte, error) {
		return []byte(`{"resourceType":"Group","member":[{"entity":{"identifier":{"value":"7"}}},` +
			`{"entity":{"identifier":{"value":"8"}}}]}`), nil
	}, Identified: func(i fhir.Identifier) (string, error) {
		return map[fhir.Identifier]string{{Value: "7"}: "p7"}[i], nil
	}}
	m, err := source.Members(g, "g", time.Now())
	if d := cmp.Diff([]string{"p7"}, m.Patients); d != "" || err != nil {
		t.Error(d, err)
	}
}

func TestGroupsWithoutTellableMembersAreRefused(t *testing.T) {
	of := map[string][]string{"outer": {"Group/inner"}, "inner": {}, "old": {"Patient/p"}}
	extra := map[string]string{
		"inner": `,"characteristic":[{"code":{"text":"smokers"}}]`,
		"old":   `,"active":false`,
	}
	for id, want := range map[string]string{
		"outer": "Group/inner",
		"inner": "smokers",
		"old":   "not active",
	} {
		_, err := source.Members(groups(extra, of), id, time.Now())
		if ehi.CodeOf(err) != ehi.Invalid || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", id, err)
		}
	}
	_, err := source.Members(groups(nil, of), "nobody", time.Now())
	if ehi.CodeOf(err) != ehi.NotFound {
		t.Error(err)
	}
}
