package server

import (
	"fmt"
	"strings"
	"testing"

	"ehi-server/api/openapi"
	"ehi-server/shared/golden"
)

// referenceHead introduces docs/api.md.
const referenceHead = "# HTTP API\n\n" +
	"Every route of the server, who may use it, and what it does. The page `/docs/api` of a " +
	"running\n" +
	"server has the same with all parameters and answers, and lets you try each route;\n" +
	"`/openapi.json` is the OpenAPI 3.1 document.\n\n" +
	"The paths below `/fhir` also exist below the variants %s,\n" +
	"and in the sandbox below `/faulty/{faults}` ([faults.md](faults.md)). The variants leave " +
	"out the\n" +
	"patient's form, the administrator's review, or both: in production only for clients that " +
	"were\n" +
	"added with `--may-skip-form` or `--may-skip-review`.\n\n" +
	"The commands use the variables that [For client developers](clients.md) sets, and the " +
	"sandbox's\n" +
	"own client and administrator.\n\n" +
	"Roles build on each other: viewer, reviewer, admin. \"Proved recently\" means that the " +
	"administrator\n" +
	"has confirmed their identity within `--reauthenticate-after`.\n\n" +
	"`go test ./api/server -run RouteReference -update` writes this page from the routes, the " +
	"rules of\n" +
	"access and `api/openapi/openapi.yaml`.\n"

// docs/api.md has every route with its rule of access and its summary.
func TestTheRouteReferenceIsTheRoutes(t *testing.T) {
	var variants []string
	for _, base := range openapi.Variants() {
		if base != "" {
			variants = append(variants, "`"+base+"`")
		}
	}
	var page strings.Builder
	fmt.Fprintf(&page, referenceHead, strings.Join(variants, ", "))
	for _, tag := range openapi.Tags() {
		fmt.Fprintf(&page, "\n## %s\n\n%s\n\n", tag.Name, tag.Description)
		page.WriteString(
			"| route | who may use it | what it does | try it |\n| --- | --- | --- | --- |\n")
		for _, o := range openapi.Operations() {
			if o.Tag == tag.Name {
				fmt.Fprintf(&page, "| `%s` | %s | %s | %s |\n",
					o, accessTo(t, o), whatItDoes(o), command(o))
			}
		}
	}
	golden.Check(t, "../../docs/api.md", page.String())
}

// accessTo is the rule of an operation in words.
func accessTo(t *testing.T, o openapi.Operation) string {
	t.Helper()
	r, ok := documentedRule(o)
	if !ok {
		t.Errorf("%s has no rule", o)
	}
	return r.says
}

// whatItDoes is what an operation does, and its query parameters.
func whatItDoes(o openapi.Operation) string {
	if len(o.Query) == 0 {
		return o.Summary
	}
	return o.Summary + " Query: `" + strings.Join(o.Query, "`, `") + "`"
}

// command is how to try an operation.
func command(o openapi.Operation) string {
	if o.Curl == "" {
		return ""
	}
	return "`" + o.Curl + "`"
}
