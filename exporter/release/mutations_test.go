package release_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// mutation breaks one rule of the filter by replacing the text old by new in a file of the
// package.
type mutation struct{ rule, file, old, new string }

// by returns the test that must find the mutation. Mutations of cast.go have a test of their
// own.
func (m mutation) by() string {
	if m.file == "cast.go" && held[m.rule] == "" {
		return casts
	}
	return cmp.Or(held[m.rule], adversary)
}

// held maps the rules that the adversary exercises too rarely to the tests that hold them.
var held = map[string]string{
	"a Reference by a fullUrl leads to what has it":         "TestEHI9WhoIsCalledByAFullUrlStaysWithWhatUsesHim",
	"a Patient goes bare where it has to":                   "TestEHI9ThePatientGoesWithoutWhatIsSensitive",
	"what is contained goes with what alone refers to it":   "TestEHI9WhatIsContainedIsTreatedAsItsContainer",
	"systems of identifiers have two names":                 "TestEHI9WhatIsNamedByAnIdentifierGoesWithWhatNamesIt",
	"an answer about a coverage stays with its request":     "TestEHI9EveryReferenceOfR4IsDecidedUpon",
	"what is there twice stays where one of them does":      "TestEHI9WhatCameOnceMoreIsDecidedAboutAnew",
	"what relied on the first of them is decided anew":      "TestEHI9WhatCameOnceMoreIsDecidedAboutAnew",
	"what relied on a cleaned Patient is decided anew":      "TestEHI9WhatIsAboutThePatientGoesWithHim",
	"of two types the last one counts":                      "TestTheLastOfTwoTypesOrIDsCounts",
	"of two ids the last one counts":                        "TestTheLastOfTwoTypesOrIDsCounts",
	"an NDC counts without its package":                     spelled,
	"codes of CPT count by names of HCPCS":                  spelled,
	"whether others follow the first ones is looked at":     "TestTheLastOfTwoTypesOrIDsCounts",
	"an answer about a coverage is one to its request":      eligible,
	"an answer about a coverage tells of all lines":         eligible,
	"what an answer about a coverage contains does not":     eligible,
	"an insurance in an answer about it is an entry":        eligible,
	"an error in an answer about a coverage is an entry":    eligible,
	"the disposition of that answer tells of all of it":     eligible,
	"a number of the withheld leaves in no text":            numbered,
	"lines that hold a number of the withheld are walked":   numbered,
	"what goes has no secret numbers":                       numbered,
	"what goes after all has no secret numbers":             numbered,
	"lines that have numbers are skimmed":                   numbered,
	"numbers count in any case":                             numbered,
	"a number within a longer one is none":                  numbered,
	"a date is no number":                                   numbered,
	"digits alone are a number where they are many":         numbered,
	"a character reference in a text is what it stands for": undisguisedTexts,
	"what cannot be seen in a text does not count":          undisguisedTexts,
	"letters of every width are those of ids":               undisguisedTexts,
	"lines with a disguise are walked":                      undisguisedTexts,
	"a line like others has disguises of its own":           undisguisedTexts,
	"a text is looked at without disguise, too":             undisguisedTexts,
	"a code may be disguised":                               undisguisedCodes,
	"a code of no system may be disguised":                  undisguisedCodes,
	"a label may be disguised":                              undisguisedCodes,
	"codes with a disguise are walked":                      undisguisedCodes,
	"the name of a system may be disguised":                 undisguisedCodes,
	"the id in a Reference may be disguised":                undisguisedReferences,
	"an identifier may be disguised":                        undisguisedReferences,

	"a text that shows a code counts as one":            shownIn,
	"the display of a Coding may show a code":           shownIn,
	"a known coding says what a text does not":          shownIn,
	"lines that show a code are walked":                 shownIn,
	"a line like others may show a code":                shownIn,
	"a code may stand in brackets":                      shownIn,
	"a code may stand in brackets at the end":           shownIn,
	"the name of a system may stand before a code":      shownIn,
	"a word of a sentence is no code":                   shownIn,
	"a number of SNOMED CT in a text is a code":         shownIn,
	"a D may stand before a code of ICD-10":             shownIn,
	"codes with a D before them are walked":             shownIn,
	"a D before a code of another system means nothing": "TestEHI9ADStandsBeforeCodesOfNordicEditions",

	"a meta.source leads as a Reference does":            "TestEHI9TheSourceOfAResourceLeadsToNothingWithheld",
	"lines whose meta.source leads somewhere are walked": "TestEHI9TheSourceOfAResourceLeadsToNothingWithheld",
	"a line like others has a meta.source of its own":    "TestEHI9TheSourceOfAResourceLeadsToNothingWithheld",
	"an extension goes with its url":                     "TestEHI9AnExtensionGoesWithItsURL",

	"a CodeableReference decides as a Reference did":             codeable,
	"the concept of a CodeableReference goes with its reference": codeable,
	"lines with a CodeableReference are walked":                  codeable,

	"a display goes with the identifier beside it":     beside,
	"a display goes with the type beside it":           beside,
	"a display goes with what is masked beside it":     beside,
	"lines with something behind a display are walked": beside,
	"an Identifier in a list names what it names":      beside,
	"lines that have such a list are walked":           beside,

	"the second end of a range may be cut short": "TestEHI9RangesAndBlocksOfEveryICD",
	"a cut range without a system is none":       "TestEHI9RangesAndBlocksOfEveryICD",

	"a signature goes with what is sensitive of a Patient": "TestEHI9ASignatureGoesWithWhateverIsLeftOut",

	"what belongs to a resource leaves with its narrative": "TestEHI9" +
		"WhatBelongsToAResourceLeavesWithItsNarrative",
	"what belongs to a resource stays with its parts": "TestEHI9" +
		"WhatBelongsToAResourceStaysWithThePartsOfItsParts",

	"a text tells of parts by other names":        reported,
	"a released part by another name is known":    reported,
	"what may be partial is not sound":            reported,
	"a presentedForm tells of the parts of parts": reported,
	"what is only not ticked has parts":           throughUnticked,
	"a section within another one has parts":      consisting,
	"what is contained has parts":                 consisting,
	"a contained report presents its parts": "TestEHI9" +
		"AContainedReportPresentsNothingOfAWithheldPart",
	"a Binary stays with a contained presentedForm": "TestEHI9" +
		"AContainedReportPresentsNothingOfAWithheldPart",
	"what is only not ticked keeps nothing that belongs to a whole": "TestEHI9" +
		"WhatBelongsToAResourceLeavesWithoutAnUntickedType",
	"a relative reference may lead out of the record": relative,
	"a relative reference may lead out in a preview":  relative,
	"a relative reference may have escapes":           relative,
	"what is contained names the withheld itself": "TestEHI9" +
		"WhatIsContainedTellsOfNoWithheldPartOfItsParts",
	"a form that is previewed tells of the parts of parts": previewed,
	"what is previewed has parts of parts":                 previewed,
	"nothing is made of a visit in a preview":              "TestSummariesFollowIdentifiers",

	"a Coding may show its code alone":  "TestEHI9CodesCountInEveryShape",
	"a Coding without a code is walked": "TestEHI9CodesCountInEveryShape",
	"codes of ICD-11 count":             "TestEHI9RangesAndBlocksOfEveryICD",
}

// The tests of what consists of others: a report, any resource, through what is only not ticked,
// and a form's preview.
const (
	throughUnticked = "TestEHI9APartThatIsOnlyNotTickedHidesNoneOfItsParts"

	reported   = "TestEHI9AReportTellsOfNoWithheldMemberOfItsPanels"
	consisting = "TestEHI9WhatConsistsOfOthersTellsOfNoWithheldPart"
	previewed  = "TestEHI9APreviewCountsNoBinaryOfAReportWithAWithheldMember"
)

// beside is the test of elements beside a name of something withheld.
const beside = "TestEHI9WhatStandsBesideANameOfTheWithheldIsMasked"

// codeable is the test of R5's CodeableReferences.
const codeable = "TestEHI9ACodeableReferenceIsAReferenceAndAConcept"

// shownIn is the test of codes in texts.
const shownIn = "TestEHI9ACodeInATextKeepsItsResource"

// The tests of disguises.
const (
	undisguisedTexts      = "TestEHI9NoDisguiseHidesAnIDInATextThatGoes"
	undisguisedCodes      = "TestEHI9NoDisguiseHidesACode"
	undisguisedReferences = "TestEHI9NoDisguiseHidesWhatAReferenceLeadsTo"
)

// numbered is the test of business identifiers in texts.
const numbered = "TestEHI9TheNumbersOfTheWithheldAreMaskedInTexts"

// spelled is the test of spellings of systems and codes.
const spelled = "TestEHI9EverySensitiveCodeInEverySpelling"

// relative is the test of relative references to resources of others.
const relative = "TestEHI9ARelativeReferenceLeadsToWhatIsBesideTheRecord"

// eligible is the test of eligibility responses.
const eligible = "TestEHI9AnAnswerGoesWithoutTheLinesThatItsBillLoses"

// casts is the test of the fast path for lines that resemble released ones.
const casts = "TestCastsMaskWhatAWalkMasks"

// mutations has a row for each rule that withholds or releases something. The adversary must
// find every mutation, except those that another test holds.
var mutations = []mutation{
	{"what belongs to a resource leaves with its narrative", "whole.go",
		`return hasNarrative(&r.walk, out), r.walk.err`,
		`return hasNarrative(&r.walk, out) || ok, r.walk.err`},
	{"what belongs to a resource stays with its parts", "whole.go",
		`if todo, err = n.parts(todo, line); err != nil {`,
		`if _, err = n.parts(todo, line); err != nil {`},
	{"what is only not ticked keeps nothing that belongs to a whole", "whole.go",
		`if err == nil && r.allStay(r.typ) {`, `if err != nil && r.allStay(r.typ) {`},
	{"a relative reference may lead out of the record", "observer.go",
		`if r.loose {
		o.seeking`, `if r.loose && len(line) == 0 {
		o.seeking`},
	{"a relative reference may lead out in a preview", "summary.go",
		`	if s.loose {
`, `	if s.loose && len(line) == 0 {
`},
	{"a relative reference may have escapes", "beside.go",
		`add(w.text())`, `add(w.src[w.start:w.end])`},
	{"a text tells of the parts of parts", "parts.go",
		`for _, whole := range r.wholes[of] {`, `for _, whole := range r.wholes[of][:0] {`},
	{"a text tells of parts by other names", "parts.go",
		`func(to resource, _ verdict) { add(of, to) })`, `func(resource, verdict) {})`},
	{"a released part by another name is known", "observer.go",
		`		if made {
			o.call(self, f)`, `		if made && v.withheld() {
			o.call(self, f)`},
	{"what may be partial is not sound", "observer.go", `if !made {`, `if !made || made {`},
	{"what is only not ticked has parts", "observer.go",
		`v.withheld() && !v.unticked() {
		return false`, `v.withheld() {
		return false`},
	{"a presentedForm tells of the parts of parts", "review.go",
		`v&partial != 0 {`, `v&partial != 0 && v&stripped != 0 {`},
	{"a partial resource loses its text", "contained.go",
		`if v&partial != 0 {`, `if v&partial > partial {`},
	{"a section tells of entries by other names", "contained.go",
		`p.entries = moved(p.sources, r.edits)`, `p.entries = p.sources`},
	{"a section tells of the parts of its entries", "entries.go",
		`if !e.out && !(of.text && p.tells(e.start, e.end)) {`, `if !e.out {`},
	{"a section within another one has parts", "parts.go",
		`string(typ) == "Composition" && string(flat(path)) == entryOfSection`,
		`string(typ) == "Composition" && string(path) == entryOfSection`},
	{"what is contained has parts", "parts.go",
		`return partPaths[string(flat(within))]`, `return len(within) == 0`},
	{"what is contained names the withheld itself", "partial.go",
		`return leads(ref, value) || tells(ref, value)`, `return leads(ref, value)`},
	{"a contained report presents its parts", "entries.go",
		`isForm := p.inside && typ != ""`, `isForm := p.inside && typ == "-"`},
	{"a Binary stays with a contained presentedForm", "verdict.go",
		`return v&partial != 0 || v&stripped != 0 &&`, `return v&stripped != 0 &&`},
	{"a Bundle tells of what it holds", "inner.go",
		`place{group: madeOfInner, part: true}`, `place{group: madeOfInner}`},
	{"a Bundle tells of the persons and things that it holds", "inner.go",
		`			f.tells = append(f.tells, to)
			f.deeper = append(f.deeper, to)`, `			f.tells = append(f.tells, to)`},
	{"a form that is previewed tells of the parts of parts", "summary.go",
		`		presents := d.summary.kinds[d.summary.nodes[at].kind].presents
`, `		presents := false
`},
	{"what is previewed has parts of parts", "summary.go",
		`for _, whole := range d.wholes[of] {`, `for _, whole := range d.wholes[of][:0] {`},
	{"nothing is made of a visit in a preview", "summary.go",
		`return some && !others`, `return some && others`},
	{"a Patient goes bare where it has to", "patient.go",
		`if p.name == resourceType || p.name == "id" {`, `if p.name != "" {`},
	{
		"a signature goes with what it is of",
		"inner.go",
		`if r.changed = b.changed; !b.changed {`,
		`if !b.changed {`,
	},
	{"a signature goes with what is sensitive of a Patient", "releaser.go",
		`(r.changed || v&(stripped|partial) != 0 || altered(r.edits))`,
		`(r.changed || altered(r.edits))`},
	{"a signature goes with what is not ticked", "signed.go",
		`return !isUnused(e.With) &&`, `return isTelling(e.With) &&`},
	{"what is contained goes with what alone refers to it", "contained.go",
		`err = p.orphan(r.out, out)`, `err = p.orphan(r.out, r.out)`},
	{"systems of identifiers have two names", "called.go",
		`if known := sameSystems[string(s)]; known != "" {`,
		`if known := sameSystems[string(s)]; known == "-" {`},
	{"an answer about a coverage stays with its request", "about.go",
		`"CoverageEligibilityResponse": {{"request"}},`,
		`"CoverageEligibilityResponse": {{"requestor"}},`},
	{
		"a signature goes with what it was made over",
		"signed.go",
		`if !signedName.in(line) && !hasCodedEscapes(line) {`,
		`if !signedName.in(line) || hasCodedEscapes(line) {`,
	},
	{
		"codes count with zeros before them",
		"spelling.go",
		`short = strings.TrimLeft(code, "0")`,
		`short = code`,
	},
	{"codes of ICD-11 count by the name of their system", "spelling.go", `{"icd11", icd11},`, ``},
	{"what is there twice stays where one of them does", "verdict.go",
		`if found && !before(v, *at) {`, `if found && *at == v {`},
	{"what relied on the first of them is decided anew", "review.go",
		`if r.relied && r.twice {`, `if r.relied && r.twice && r.alone {`},
	{"what relied on a cleaned Patient is decided anew", "review.go",
		`		r.twice = v.withheld()
`, `		r.twice = v.withheld() && r.alone
`},
	{"of two types the last one counts", "facts.go",
		`if err == nil && !bytes.Equal(typ, last) {`,
		`if err == nil && !bytes.Equal(typ, last) && x.alone {`},
	{"of two ids the last one counts", "walk.go", `		case string(w.key()) == "id":
			id = w.text()`, `		case string(w.key()) == "id" && id == nil:
			id = w.text()`},
	{
		"whether others follow the first ones is looked at",
		"observer.go",
		`r.irregular = true`,
		`r.irregular = false`,
	},
	{"an answer about a coverage is one to its request", "lines.go",
		`	"CoverageEligibilityResponse": "request",
`, ``},
	{"an answer about a coverage tells of all lines", "lines.go",
		`== eligibility && e.field != contained`, `== eligibility && e.field == "-"`},
	{"what an answer about a coverage contains does not", "lines.go",
		`== eligibility && e.field != contained`, `== eligibility`},
	{
		"an insurance in an answer about it is an entry",
		"entries.go",
		`{"insurance", "error"}`,
		`{"error"}`,
	},
	{
		"an error in an answer about a coverage is an entry",
		"entries.go",
		`{"insurance", "error"}`,
		`{"insurance"}`,
	},
	{"the disposition of that answer tells of all of it", "entries.go",
		`	"CoverageEligibilityResponse": {"disposition"},
`, ``},
	{"sensitive information needs its tick", "policy.go", `missing != 0 {`, `missing > 1<<14 {`},
	{
		"the line of the form is ticked",
		"policy.go",
		`key != "" && !p.allows(key, f) {`,
		`key == ehi.Visits && !p.allows(key, f) {`,
	},
	{
		"what has no date lies within no limits",
		"policy.go",
		`if !f.happened.Overlap(`,
		`if len(f.happened) > 0 && !f.happened.Overlap(`,
	},
	{
		"the Patient always goes", "policy.go", `if string(f.typ) == "Patient" {`,
		`if string(f.typ) == "Nobody" {`,
	},
	{
		"a label counts without a system",
		"table.go",
		`append(systems, labelsWithoutSystem)`,
		`append(systems, codesWithoutSystem)`,
	},
	{
		"a code counts without a system",
		"table.go",
		`append(systems, codesWithoutSystem)`,
		`append(systems, labelsWithoutSystem)`,
	},
	{"codes count in any case", "spelling.go", `class[c], class[c|0x20] = c, c`, `class[c] = c`},
	{
		"codes count in letters of every width",
		"letters.go",
		`if text[i] >= 0x80 {`,
		`if text[i] >= 0xff {`,
	},
	{
		"codes count in letters that look like others",
		"letters.go",
		`m[r] = plain[i]`,
		`m[r] = r + 0*plain[i]`,
	},
	{"codes count in the digits of all scripts", "letters.go", `return digitOf(r)`, `return r`},
	{"codes of ICD-11 count", "spelling.go", `{"icdrelease11", icd11},`, ``},
	{"codes of ATC count", "spelling.go", `"2.16.840.1.113883.6.73":   atc,`, ``},
	{
		"a range of codes is each of them",
		"ranges.go",
		`|| !r.eleven && of != icd10 && of`,
		`|| !r.eleven && of`,
	},
	{"a range of ICD-11 is each of its codes", "ranges.go",
		`case isStem(from) && isStem(to):`, `case isStem(from) && isStem(to) && len(from) > 9:`},
	{"a block of ICD-11 is each of its codes", "ranges.go", `"BL0CKL") &&`, `"BLOCKL") &&`},
	{"the first characters of a block are the block", "ranges.go",
		`system == icd11 && len(code) == 3`, `system == icd11 && len(code) == 2`},
	{"the reason of a message is of all that it is about", "entries.go",
		`"Communication", "MessageHeader",`, `"Communication",`},
	{"a code of some ICD is one of each revision", "spelling.go",
		`	if namesICD(url) {`, `	if namesICD(url) && url == "" {`},
	{"two dots make a range", "ranges.go", `"..", "-",`, `"..", " ",`},
	{
		"an O is a zero where a system has none",
		"slips.go",
		`from, digit = s.zero, '0'`,
		`from, digit = s.one, '0'`,
	},
	{
		"an I is a one where a system has none",
		"slips.go",
		`from, digit = s.one, '1'`,
		`from, digit = -1, '1'`,
	},
	{"codes with slips are walked", "table.go", `|| t.mayBeSlip(code)`, ``},
	{
		"a Coding may show its code alone",
		"ranges.go",
		`if len(c.shown) > 0 {`,
		`if len(c.shown) > 99 {`,
	},
	{
		"a Coding without a code is walked",
		"shape.go",
		`x.casts || !holds.system || holds.code`,
		`x.casts || !holds.system || holds.code || len(line) > 0`,
	},
	{
		"systems count by every name",
		"spelling.go",
		`strings.Index(name, registered)`,
		`strings.Index(name, registered) - 1<<30`,
	},
	{
		"a part of a text counts as a code",
		"spelling.go",
		`if len(parts) > 1 {`,
		`if len(parts) > 9 {`,
	},
	{
		"a document is of the group of its type",
		"facts.go",
		`case "type", "code", "modality", "series":`,
		`case "code", "modality", "series":`,
	},
	{"a Reference goes where its target goes", "releaser.go", `case v.withheld():
		return maskOf(v)`, `case v.withheld() && v&sensitive != 0:
		return maskOf(v)`},
	{
		"a server's name does not count",
		"releaser.go",
		`if m := r.betrays(ref); m != nil {`,
		`if m := r.betrays(ref); m != nil && ref[0] == '#' {`,
	},
	{
		"escapes of a URL do not count",
		"link.go",
		`if c, ok := unhex(url[i:]); ok {`,
		`if c, ok := unhex(url[i:]); ok && i < 0 {`,
	},
	{"an identifier names what has it", "releaser.go", `		} else if withheld {
			top.holds |= namesWithheld`, `		} else if withheld {
			top.holds |= holdsValue`},
	{
		"an identifier is one whatever its element is called",
		"skim.go",
		`f.shared = append(f.shared, value)`,
		`f.shared = f.shared[:0]`,
	},
	{"an identifier may stand for a Reference", "identifiers.go", `		return true
	}
	return mayBeIdentifier(field)`, `		return string(field) == "identifier"
	}
	return mayBeIdentifier(field)`},
	{
		"identifiers count in any case",
		"link.go",
		`return fhir.PlainIdentifier(value)`,
		`return bytes.TrimSpace(value)`,
	},
	{
		"what is beside the record counts as withheld",
		"beside.go",
		`case missing != 0:`,
		`case missing > 1<<14:`,
	},
	{
		"a drug beside the record is what it is made of",
		"beside.go",
		`case f.pointer():`,
		`case f.pointer() && missing != 0:`,
	},
	{
		"another server's URL may mean what is beside the record",
		"beside.go",
		`bytes.IndexByte(ref, ':') >= 0`,
		`bytes.IndexByte(ref, ':') == 0`,
	},
	{
		"an identifier may mean what is beside the record",
		"beside.go",
		`if len(v) > 0 && typeCalled(v) == nil {`,
		`if len(v) > 99 && typeCalled(v) == nil {`,
	},
	{
		"what is beside the record is called by its identifiers",
		"beside.go",
		`r.identified.owned = append(r.identified.owned, own)`,
		`r.identified.owned = append(r.identified.owned[:0], r.identified.owned...)`,
	},
	{
		"identifiers of what stays are known",
		"quick.go",
		"newNeedle(`dentifier\"`)",
		"newNeedle(`dentifiers\"`)",
	},
	{"a code makes no Coding of a Reference", "releaser.go", `t&coding == coding
`, `t&coding != 0
`},
	{"what is encoded twice is decoded twice", "disguise.go", `for range 4 {`, `for range 1 {`},
	{
		"a value may be written as a URN",
		"link.go",
		`return fhir.PlainIdentifier(value)`,
		`return bytes.ToLower(bytes.TrimSpace(value))`,
	},
	{
		"a display alone may mean what is withheld",
		"releaser.go",
		`== holdsDisplay && r.hidden[string(field)]`,
		`== holdsDisplay && r.hidden[string(field)] && r.short`,
	},
	{
		"a display may mean other types than R4 has",
		"link.go",
		` || is || anything && !actor([]byte(t))`,
		` || is && anything`,
	},
	{
		"a supporting resource goes with what uses it",
		"about.go",
		`if _, goes := s.used[self]; !goes {`,
		`if _, goes := s.used[self]; goes {`,
	},
	{
		"what tells of a supporting resource does not use it",
		"skim.go",
		`case to.supports() && tells:`,
		`case to.supports() && tells && f.number == 0:`,
	},
	{"what is withheld uses nothing", "about.go", `if r.standing(from).withheld() {
		return false`, `if r.standing(from)&sensitive != 0 {
		return false`},
	{
		"an entry that is left out takes nothing along",
		"inside.go",
		`_, telling := r.keeps(to)`,
		`telling, _ := r.keeps(resource{})`,
	},
	{
		"what is for the withheld alone stays",
		"review.go",
		`why && !telling {`,
		`why && (telling || kept) {`,
	},
	{
		"what is for the unticked goes", "review.go", `|| why && !telling {`,
		`|| why && !kept && !telling {`,
	},
	{
		"an entry that shows what may be withheld takes nothing along",
		"inside.go",
		`slices.ContainsFunc(l.shown, r.mayHide)`,
		`len(l.shown) > 9`,
	},
	{
		"an entry that names nothing withheld takes along what it refers to",
		"inside.go",
		`slices.ContainsFunc(l.shown, r.mayHide)`,
		`len(l.shown) > 0`,
	},
	{
		"what nothing uses is not withheld",
		"verdict.go",
		`v.withheld() && !v.unused()`,
		`v.withheld()`,
	},
	{
		"what tells of a thing takes it along",
		"about.go",
		`set := told`,
		`set := map[resource]struct{}{}`,
	},
	{
		"what the withheld tells of does not go for what tells of it",
		"about.go",
		`for of := range mentioned {`,
		`for of := range map[resource]bool{} {`,
	},
	{
		"a Device that is used only by what stays, stays",
		"about.go",
		`!is && self.typ != nameType && !isPart(self.typ) {`,
		`!is && self.typ == takerType {`,
	},
	{
		"a drug is what each of its ingredients is",
		"about.go",
		`case madeOf[f.number] && p.to.typ != nil:`,
		`case madeOf[f.number] && p.to.typ != nil && f.number == 0:`,
	},
	{
		"a part stays with what it belongs to",
		"about.go",
		`if !denied.keeps(self) {`,
		`if !denied.keeps(self) || roles[self.typ] == part {`,
	},
	{"what is only not ticked keeps no part", "about.go", `return !v.unticked()`, `return v != 0`},
	{
		"a part by way of another stays too",
		"about.go",
		`return d.keeps(from) && !s.goes(from, reached)`,
		`return d.keeps(from) && !s.goes(from, reached) && !s.isOwned(from)`,
	},
	{
		"an identifier brings what has it along",
		"called.go",
		`x.codings[w.depth-1].called = identifier{c.system, c.value}`,
		`x.codings[w.depth-1].called = identifier{}`,
	},
	{"what is wholly about the withheld stays", "review.go", `; !kept ||`,
		`; !kept || !why || !kept && telling ||`},
	{
		"what is said of anything stays with that",
		"about.go",
		`"Basic":                {{"subject"}},`,
		`"Basic":                {{"author"}},`,
	},
	{
		"what is made of the withheld alone stays",
		"about.go",
		`{"result", "imagingStudy", "media.link"}`,
		`{"imagingStudy", "media.link"}`,
	},
	{
		"an answer stays with the order",
		"about.go",
		`{{"reasonReference"}, {"basedOn"}, {"partOf"}}`,
		`{{"reasonReference"}, {"partOf"}}`,
	},
	{
		"a panel stays with its members",
		"quick.go",
		`f.members = f.members || !isOccasion(ref[:end])`,
		`f.members = f.members && !isOccasion(ref[:end])`,
	},
	{
		"an entry goes with what it tells of",
		"entries.go",
		`e.out = p.hit(w.start, w.end) > 0`,
		`e.out = p.hit(w.start, w.end) > 1`,
	},
	{
		"a line of a bill goes with the diagnosis that it names",
		"entries.go",
		`return gone[n] && n.list != processNote`,
		`return gone[n] && n.list == ""`,
	},
	{
		"what names a line that is left out is left out",
		"entries.go",
		`again, gone[n] = true, true`,
		`gone[n] = true`,
	},
	{
		"an answer goes with the line of the bill",
		"lines.go",
		`if !r.tellsOf(to) &&`,
		`if !r.tellsOf(resource{}) &&`,
	},
	{
		"an answer that names no bill may be to any",
		"lines.go",
		`gone := r.anyGone`,
		`gone := goneLines(nil)`,
	},
	{
		"what only a line names that is left out is left out",
		"entries.go",
		`named[n] && !kept[n]`,
		`named[n] && !kept[n] && e.out`,
	},
	{
		"what only a line names that is left out takes nothing along",
		"inside.go",
		`len(k.namers) > 0 &&`,
		`len(k.namers) > 9 &&`,
	},
	{
		"a note goes with the lines that name it",
		"entries.go",
		`e.out = told[e.sequence] ||`,
		`e.out =`,
	},
	{"a note that no line names tells of all", "entries.go", `!goes[e.sequence]`, `e.field == ""`},
	{
		"what of a Patient is sensitive needs its tick",
		"observer.go",
		`if reason == "" && p.needsCleaning(f) {`,
		`if reason == "-" && p.needsCleaning(f) {`,
	},
	{
		"the text of a Patient goes with the first that is sensitive",
		"patient.go",
		`slices.DeleteFunc(out, isText)`,
		`slices.DeleteFunc(out, func([]byte) bool { return false })`,
	},
	{
		"a label of a Patient goes by itself",
		"patient.go",
		`case p.name == "meta" && value[0] == '{':`,
		`case p.name == "-" && value[0] == '{':`,
	},
	{
		"what a Patient leaves behind takes nothing along",
		"observer.go",
		`o.examine.examine(left)`,
		`o.examine.examine(line[:len(line)+0*len(left)])`,
	},
	{
		"what refers to what a Patient contains is masked",
		"releaser.go",
		`if r.pruner.fallen.ids[string(url[1:])] || r.secret`,
		`if r.secret`,
	},
	{
		"a contained resource about the withheld stays",
		"contained.go",
		`if inner.tellsOfWithheldAlone(string(typ), part) {`,
		`if len(inner.masked) > 9 && inner.tellsOfWithheldAlone(string(typ), part) {`,
	},
	{
		"a text goes with the first Reference that is masked",
		"entries.go",
		`case len(p.hits) > 0: `,
		`case len(p.hits) > 9: `,
	},
	{
		"what is contained takes along where it goes",
		"inside.go",
		`if r.fallsWithin(k.leftWithin) || r.isLeft`,
		`if r.isLeft`,
	},
	{
		"the text of a section goes with its first entry",
		"entries.go",
		`string(w.key()) == "text" {`,
		`string(w.key()) == "div" {`,
	},
	{
		"a question goes with its answer",
		"entries.go",
		`"QuestionnaireResponse":      {"item"},`,
		`"QuestionnaireResponse":      {"question"},`,
	},
	{
		"what a bill says of an insurance goes with that",
		"entries.go",
		`{"preAuthRef", "businessArrangement", "identifier"}`,
		`{"businessArrangement", "identifier"}`,
	},
	{
		"the reason of a Provenance is of each of its targets",
		"entries.go",
		`"CommunicationRequest", "DetectedIssue", "Provenance")`,
		`"CommunicationRequest", "DetectedIssue")`,
	},
	{
		"an id of a withheld resource leaves in no capitals",
		"secrets.go",
		`s.capitals = true`,
		`s.capitals = false`,
	},
	{"a section goes with its last entry", "entries.go", `some && outside == 0`, `outside == 0`},
	{
		"an entry stays where its target is not ticked alone",
		"releaser.go",
		`if v.unticked() {`,
		`if v == 0 {`,
	},
	{
		"what stands within another resource goes by itself",
		"inner.go",
		`if v.withheld() || !known && !r.resolved {`,
		`if v&sensitive != 0 || !known && !r.resolved {`,
	},
	{
		"what stands beside it goes with it",
		"inner.go",
		`case lost && !whole:`,
		`case lost && !whole && len(fields) > 99:`,
	},
	{
		"what stands beside the parameter of a part goes with it",
		"inner.go",
		`if some && !whole {`,
		`if some && whole {`,
	},
	{
		"a copy goes with what its fullUrl names",
		"inner.go",
		`if ok && !bytes.Equal(id, in.id) {`,
		`if ok && bytes.Equal(id, in.id) {`,
	},
	{
		"a copy goes with what has its identifier",
		"inner.go",
		`of.typ == self.typ && of != self`,
		`of.typ == 0 && of != self`,
	},
	{
		"what holds the withheld alone stays",
		"inner.go",
		`f.content = append(f.content, pointing{place{group: madeOfInner, part: true}, to})`,
		`f.content = append(f.content, pointing{place{group: copyOf}, to})`,
	},
	{
		"a fullUrl is masked where what it names stays",
		"releaser.go",
		`if of, is := r.called[string(ref)]; is {`,
		`if of, is := r.called[string(ref)]; is && r.alone {`,
	},
	{
		"what stands in what stays, stays",
		"inner.go",
		`if v, known := r.index.at(in.self); alone[in.self] &&`,
		`if v, known := r.index.at(in.self); alone[in.self] && len(alone) > 99 &&`,
	},
	{
		"what holds a thing tells of it",
		"inner.go",
		`f.tells = append(f.tells, to)`,
		`f.tells = append(f.tells[:0], f.tells...)`,
	},
	{
		"a presentedForm goes by its own group",
		"observer.go",
		`!p.allows(f.documentGroup(), f)`,
		`!p.allows(category(f), f)`,
	},
	{
		"a presentedForm is cut out",
		"releaser.go",
		`case v&stripped != 0 && w.depth == 1`,
		`case v&stripped != 0 && w.depth == 9`,
	},
	{
		"a presentedForm stays with the first result that does",
		"review.go",
		`if r.tellsOf(target) &&`,
		`if r.tellsOf(target) && from+1 == to &&`,
	},
	{
		"a Binary goes with its documents",
		"attached.go",
		`r.index.set(h.binary, because[unusedName])`,
		`r.index.set(h.binary, 0)`,
	},
	{"an id alone leads to what has it", "leads.go", `l.add(nil, id)`, `l.add(nil, nil)`},
	{
		"an identifier leads to what has it",
		"leads.go",
		`append(l.values, normal(value))`,
		`append(l.values, value[:0])`,
	},
	{
		"a Binary stays with what may lead to it",
		"attached.go",
		`|| known; !known ||`,
		`|| known; known ||`,
	},
	{
		"what leads nowhere may lead to any Binary",
		"attached.go",
		`case unread && !r.isKept(`,
		`case unread && r.isKept(`,
	},
	{
		"what tells of a Binary is no document of it",
		"attached.go",
		`return h.tells && used[h.binary]`,
		`return h.tells && used[h.self]`,
	},
	{
		"a Binary stays with its presentedForm",
		"attached.go",
		`case !h.presented || !of.hidesForm(h.self):`,
		`case !h.presented || !of.withheld():`,
	},
	{"an id of a withheld resource leaves in no text", "releaser.go",
		`len(text) >= minNumber && r.secrets.in(text)`,
		`len(text) >= 4*looseSecret && r.secrets.in(text)`},
	{
		"a short id leaves with its type in no text",
		"releaser.go",
		`if r.isWithheld(typ, text[at:end]) ||`,
		`if r.resolved && r.isWithheld(typ, text[at:end]) && `,
	},
	{"lines with escapes are walked", "releaser.go",
		`if hasCodedEscapes(line) || isDisguised(line) ||`, `if isDisguised(line) ||`},
	{"References without a reference are walked", "releaser.go",
		`isDisguised(line) || !r.named(line) {`, `isDisguised(line) {`},
	{
		"codes with escapes are walked",
		"quick.go",
		`coded ||
		!x.alone && (may`,
		`coded && x.alone ||
		!x.alone && (may`,
	},
	{
		"a code counts as a number too", "facts.go", `if len(c.number) > 0 {`,
		`if len(c.number) > 99 {`,
	},
	{"a code counts where a Coding should be", "shape.go",
		`holdsCodes(name), in.codes && !besidesCodes(name):`,
		`in.codes && !besidesCodes(name) && w.depth > 99:`},
	{"a label counts by what it shows", "facts.go",
		`if x.isLabel(x.walk.depth - 1) {`,
		`if x.isLabel(x.walk.depth-1) && f.number == 0 {`},
	{
		"a label counts in whatever system",
		"table.go",
		`if label && t.loose {`,
		`if label && t.loose && in == "" {`,
	},
	{"labels are what is called so", "shape.go",
		`bytes.EqualFold(name[:len(security)], []byte(security))`,
		`string(name) == security`},
	{"the confidentiality of a document is a label", "facts.go",
		`if string(k) == "confidentiality" {`,
		`if string(k) == "confidential" {`},
	{"lines with labels are walked", "quick.go",
		`newNeedle("ecurity"), newNeedle("ECURITY")`,
		`newNeedle("ECURITY")`},
	{"a category may only show what it is", "facts.go",
		`f.laboratory = f.laboratory || showsLaboratory(x.walk.text())`,
		`f.laboratory = f.laboratory || x.alone && showsLaboratory(x.walk.text())`},
	{"lines that show a laboratory are walked", "quick.go",
		`if t.kind == goesUnlessLab && holdsLab(line) {`,
		`if t.kind == goesUnlessLab && holdsLab(line[:0]) {`},
	{"what has dates is walked", "quick.go",
		`if l, on := c[key]; key != "" && (!on || !l.from.IsZero() || !l.to.IsZero()) {`,
		`if _, on := c[key]; key != "" && !on {`},
	{"visits have a line of the form", "policy.go", `case "Encounter", "Procedure":
		return ehi.Visits`, `case "Encounter", "Procedure":
		return ""`},
	{"bills have a line of the form", "policy.go", `		return ehi.Billing`, `		return ""`},
	{
		"laboratories have a line of the form",
		"policy.go",
		`			return ehi.Labs`,
		`			return ""`,
	},
	{"persons, places and things have none", "policy.go", `	if isThing(f.typ) {
		return ""`, `	if isThing(f.typ) {
		return ehi.MedicalRecord`},
	{"what answers a form stays with it", "about.go",
		`[]string{"questionnaire", "instantiatesCanonical"}`,
		`[]string{"instantiatesCanonical"}`},
	{"what follows a plan stays with it", "about.go",
		`[]string{"questionnaire", "instantiatesCanonical"}`,
		`[]string{"questionnaire"}`},
	{"the URL of a definition that stays is masked", "releaser.go",
		`bytes.IndexByte(text, ':') < 0`,
		`bytes.IndexByte(text, ':') >= 0`},
	{
		"a canonical URL counts in every version",
		"called.go",
		`bytes.IndexAny(url, "|#")`,
		`bytes.IndexAny(url, "#")`,
	},
	{"a definition beside the record is called by its URL", "beside.go",
		`number: f.number, url: f.url}`,
		`number: f.number}`},
	{
		"a definition stays with what follows it",
		"called.go",
		`x.leadsTo(f, target{nameTyp, name}, false)
		to = leadTo(nil, name)`,
		`to = leadTo(nil, name)`,
	},
	{"a definition stays with one within whose actions it is named", "called.go",
		`roles[f.number] != definition || !is[`,
		`roles[f.number] == definition || !is[`},
	{"a definition takes along what it is made of", "called.go",
		`if !is[string(x.path)] &&
		(`,
		`if roles[f.number] == definition || !is[string(x.path)] &&
		(`},
	{"what a message is about keeps it", "about.go", `{{"focus"}}`, `{{"author"}}`},
	{"a type and an id lead to that alone", "leads.go", `		l.add(typ, word)
`, `		l.add(nil, word)
`},
	{"a Reference by a fullUrl leads to what has it", "inner.go",
		`if to, is := called[string(w.text())]; is {`,
		`if to, is := called[string(w.text())]; is && len(called) > 99 {`},
	{"an unticked line is looked at", "quick.go", `	if x.casts {
		return false
	}
	if t ==`, `	if x.casts || t == stays {
		return false
	}
	if t ==`},
	{"lines that hold the URL of one that stays are walked", "releaser.go",
		`if r.identified.urls {`,
		`if r.identified.urls && r.alone {`},
	{
		"a display goes with the identifier beside it",
		"releaser.go",
		`(holds&named == named ||`,
		`(r.alone ||`,
	},
	{"a display goes with the type beside it", "releaser.go",
		`holds&(typed|holdsReference|holdsIdentifier) == typed)`, `r.alone)`},
	{
		"a display goes with what is masked beside it",
		"releaser.go",
		`if top.mask == nil &&
		(top.concept ||`,
		`if top.mask == nil && top.concept &&
		(top.concept ||`,
	},
	{"lines with something behind a display are walked", "releaser.go", `if !endsWell(line[at:]) {`,
		`if r.alone && !endsWell(line[at:]) {`},
	{
		"an Identifier in a list names what it names",
		"releaser.go",
		`		return holds&holdsIdentifier != 0
	}
	return holds&holdsValue`,
		`		return false
	}
	return holds&holdsValue`,
	},
	{"lines that have such a list are walked", "called.go", `|| capital || begins {`,
		`|| capital || begins && at < 0 {`},
	{
		"an Identifier in an extension names another one",
		"identifiers.go",
		`	return mayBeIdentifier(field)
`,
		`	return mayBeIdentifier(field) && !inExtension(path)
`,
	},
	{"what stays may be called by what an extension of it says", "observer.go",
		`for _, v := range f.extended {`,
		`for _, v := range f.extended[:0] {`},
	{"an NDC counts without its package", "table.go", `if !p.letters && t.hasProduct(code) {`,
		`if !p.letters && t.hasProduct(nil) {`},
	{"codes of CPT count by names of HCPCS", "table.go", `if other := levels[in]; other != "" {`,
		`if other := levels[in]; other == in {`},
	{"the Patient is called by his identifiers alone", "link.go",
		`return of.typ == patientNumber`,
		`return of.typ == patientNumber && r.alone`},
	{"the answer to a line may be one of an added line", "entries.go",
		`{"item", "addItem", "error", processNote}`,
		`{"item", "error", processNote}`},
	{"the answer to a line may be an error", "entries.go",
		`{"item", "addItem", "error", processNote}`,
		`{"item", "addItem", processNote}`},
	{"an answer's notes go with its lines", "entries.go",
		`{"item", "addItem", "error", processNote}`,
		`{"item", "addItem", "error"}`},
	{"a line that was added to a bill is one", "entries.go",
		`careTeam, "addItem", "related",
		processNote,`,
		`careTeam, "related",
		processNote,`},
	{"a related bill is an entry", "entries.go", `careTeam, "related",
	},`, `careTeam,
	},`},
	{"the other information of a bill is an entry", "entries.go",
		`"supportingInfo", careTeam, "related",
	},`,
		`careTeam, "related",
	},`},
	{"a line goes with the member of the team that it names", "entries.go", `return list, is
}`, `return list, is && list != careTeam
}`},
	{"the conclusion of a report tells of all of it", "entries.go",
		`{"conclusion", "conclusionCode"}`,
		`{"conclusionCode"}`},
	{"the disposition of an answer tells of all of it", "entries.go",
		`"ClaimResponse":               {"disposition"},`,
		`"ClaimResponse":               {"outcome"},`},
	{"the description of an Appointment tells of all of it", "entries.go",
		`{"description", "comment", "patientInstruction"}`,
		`{"comment", "patientInstruction"}`},
	{
		"a title goes with its url", "releaser.go", `{"title", "data", "hash"}`,
		`{"titles", "data", "hash"}`,
	},
	{"the data of an attachment go with its url", "releaser.go",
		`{"title", "data", "hash"}`, `{"title", "date", "hash"}`},
	{"an id leads to what has it in lower case", "leads.go",
		`!bytes.Equal(lower, id) {`,
		`!bytes.Equal(lower, id) && typ != nil {`},
	{
		"an id leads to what has it without an ending",
		"leads.go",
		`id = id[:max(0, bytes.LastIndexByte(id, '.'))]
	}
}`,
		`id = nil
	}
}`,
	},
	{"a long id is one within a word too", "secrets.go",
		`!s.inLoose(text, from, to) && !s.inWords(text, from, to, escaped) {`,
		`!s.inWords(text, from, to, escaped) {`},
	{"a short id is one as a word", "secrets.go",
		`!s.inLoose(text, from, to) && !s.inWords(text, from, to, escaped) {`,
		`!s.inLoose(text, from, to) {`},
	{"a Binary that nothing holds goes by its securityContext", "attached.go",
		`case s.by.typ != patient:`,
		`case s.by.typ == patient:`},
	{"a Binary whose securityContext leads nowhere stays", "attached.go",
		`!led[self] && v&(held|sensitive) == 0`,
		`led[self] && v&(held|sensitive) == 0`},
	{"an id leads to what a securityContext means", "attached.go",
		`if !known || w.kept() {`,
		`if known && w.kept() {`},
	{"nothing is made of a visit", "skim.go",
		`isAbout = isAbout && !(sums[f.number] && ok && isOccasion(to.typ))`,
		`isAbout = isAbout && !(sums[f.number] && ok && isOccasion(to.typ) && x.alone)`},
	{
		"nothing is made of a visit by whatever name",
		"leads.go",
		`return some && !others`,
		`return some && others`,
	},
	{"what stands in what stays refers as that does", "inner.go", `	o.refer(f, held)
`, ``},
	{"a prescription uses its drug", "about.go",
		`typeSet("MedicationRequest", "MedicationDispense",`,
		`typeSet("MedicationDispense",`},
	{"what is of a subject uses it", "about.go",
		`string(at) != "subject" && string(at) != "for"`,
		`string(at) != "for"`},
	{"what is detected is of each thing that is implicated", "entries.go",
		`"DetectedIssue", "Provenance")`,
		`"Provenance")`},
	{"a number of the withheld leaves in no text", "secrets.go",
		`return s.scan(text, false) >= 0 || s.numbers.scan(text, false) >= 0`,
		`return s.scan(text, false) >= 0`},
	{"lines that hold a number of the withheld are walked", "secrets.go",
		`return s.numbers.scan(line, true)`, `return -1`},
	{"what goes has no secret numbers", "numbers.go", `delete(values, high)`, `_ = high`},
	{"what goes after all has no secret numbers", "numbers.go",
		`delete(values, o.value.high)`, `_ = o.value.high`},
	{"lines that have numbers are skimmed", "quick.go",
		`t.kind != stays && oneIn(rest, ownNames[f.number])`,
		`t.kind == stays && oneIn(rest, ownNames[f.number])`},
	{"numbers count in any case", "numbers.go", `			b |= 0x20`, `			b |= 0`},
	{"a number within a longer one is none", "numbers.go",
		`if ends(text, at+n) && s.is(`, `if s.is(`},
	{"a date is no number", "numbers.go", `return !isDate(value)`, `return true`},
	{"digits alone are a number where they are many", "numbers.go",
		`letters == 0 && digits < minSecret`, `letters == 0 && digits < minNumber`},
	{"a character reference in a text is what it stands for", "disguise.go",
		`if holdsCharacterReference(plain) {`, `if holdsCharacterReference(plain[:0]) {`},
	{"what cannot be seen in a text does not count", "disguise.go", `	case isUnseen(r):
		return -1`, `	case isUnseen(r):
		return r`},
	{"letters of every width are those of ids", "disguise.go",
		`norm.NFKC.String(string(plain))`, `norm.NFC.String(string(plain))`},
	{"lines with a disguise are walked", "releaser.go",
		`isDisguised(line) ||`, `hasEscapedNames(line) ||`},
	{"a line like others has disguises of its own", "cast.go",
		`if f.marks.mayHide() && isDisguised(text) {`, `if f.marks == 0 && isDisguised(text) {`},
	{"a text is looked at without disguise, too", "releaser.go", `	if !isDisguised(text) {
		return false`, `	if isDisguised(text) {
		return false`},
	{"a code may be disguised", "table.go", `t.lookup(system, plain, label, add)`, `_ = plain`},
	{"a code of no system may be disguised", "shape.go",
		`t.lookupAnywhere(plain, add)`, `_ = plain`},
	{"a label may be disguised", "table.go", `t.lookupLabel(plain, add)`, `_ = plain`},
	{"codes with a disguise are walked", "table.go",
		`if plain, is := undisguised(code); is && t.mayHold(plain) {`,
		`if plain, is := undisguised(code); is && t.mayHold(plain[:0]) {`},
	{"the name of a system may be disguised", "spelling.go",
		`system = string(revealed([]byte(system)))`, `system = string([]byte(system))`},
	{"the id in a Reference may be disguised", "leads.go",
		`ref = revealed(ref)`, `ref = unescapedOnce(ref)`},
	{"an identifier may be disguised", "link.go",
		`value = revealed(value)`, `value = bytes.ToLower(value)`},
	{"a text that shows a code counts as one", "facts.go", `	x.shows(f, c)
`, ``},
	{"the display of a Coding may show a code", "shown.go",
		`x.policy.sensitive.lookupShown(c.shown, f.addSensitive)`, `_ = c.shown`},
	{"a known coding says what a text does not", "shown.go",
		`x.codings[x.walk.depth-2].sure = true`, `x.codings[x.walk.depth-2].sure = false`},
	{"lines that show a code are walked", "quick.go",
		`if x.showsCode(line) {`, `if x.showsCode(line[:0]) {`},
	{"a line like others may show a code", "mould.go",
		`if x.mayShow(text, f.marks) {`, `if x.mayShow(text[:0], 0) {`},
	{"a code may stand in brackets", "shown.go",
		`if inner, rest, is := bracketed(s); is {`,
		`if inner, rest, is := bracketed(s); is && inner == "" {`},
	{"a code may stand in brackets at the end", "shown.go",
		`all = append(all, c)`, `all = append(all[:0], all...)`},
	{"the name of a system may stand before a code", "shown.go",
		`if system := systemCalled(strings.Join(words[:n], " ")); system != "" {`,
		`if system := systemCalled(strings.Join(words[:n], " ")); system == "-" {`},
	{"a word of a sentence is no code", "shown.go",
		`(strings.Contains(code, ".") || standsApart(rest))`, `len(rest) >= 0`},
	{"a number of SNOMED CT in a text is a code", "shown.go",
		`all = append(all, shown{snomed, code})`, `all = append(all, shown{loinc, code})`},
	{"a D may stand before a code of ICD-10", "shown.go", `t.lookupIn(icd10, code, add)
`, `_ = code
`},
	{"codes with a D before them are walked", "table.go",
		`if t.mayHoldPlain(&rest, false) {`,
		`if t.mayHoldPlain(&rest, false) && t.loose && p.n > 99 {`},
	{"a D before a code of another system means nothing", "shown.go",
		`in != icd10 && in != icd10Procedures && in != anyICD {`, `in == "" {`},
	{"a meta.source leads as a Reference does", "releaser.go",
		`!(isSource(w) && r.leadsToWithheld(text))`, `!(isSource(w) && r.alone)`},
	{"lines whose meta.source leads somewhere are walked", "releaser.go",
		`r.sourcesGo(line) &&`, `r.sourcesGo(line[:0]) &&`},
	{"a line like others has a meta.source of its own", "cast.go",
		`if r.leadsToWithheld(text) {`, `if r.leadsToWithheld(text[:0]) {`},
	{"an extension goes with its url", "releaser.go",
		`case top.url && w.src[w.start] == '{' &&`, `case top.url && w.src[w.start] == '[' &&`},
	{"a CodeableReference decides as a Reference did", "about.go", `	for _, places := range m {
		addCodeable(places)
	}
`, ``},
	{"the concept of a CodeableReference goes with its reference", "releaser.go",
		`top.mask == nil &&
		(top.concept ||`, `top.mask == nil &&
		(top.concept && r.alone ||`},
	{"lines with a CodeableReference are walked", "releaser.go",
		`if !ok || ofCodeable(line[:start]) {`, `if !ok {`},
	{"the second end of a range may be cut short", "ranges.go",
		`return from[:3-len(to)] + to, true`, `return to, true`},
	{"a cut range without a system is none", "ranges.go",
		`len(to) == 3 && !isCut,`, `len(to) == 3 && (isCut || !isCut),`},
	{
		"a line like others masks its own References",
		"cast.go",
		`if mask == nil {`,
		`if mask == nil || s.whole {`,
	},
	{
		"a Reference that shows more is walked",
		"cast.go",
		`if !s.whole {`,
		`if !s.whole && s.number == 1 {`,
	},
	{"a line like others has texts of its own", "cast.go", `if r.secret(text) ||`, `if r.alone ||`},
	{
		"a text that may lead somewhere is looked at",
		"cast.go",
		`f.marks&(slashMark|percentMark) != 0 &&`,
		`f.marks&percentMark != 0 &&`,
	},
	{
		"a mask that is known is of one resource",
		"cast.go",
		`known.typ != s.number || string(known.id) != string(id)`,
		`known.mask == nil && string(known.id) != string(id)`,
	},
}

// source returns a file of the package with the mutation applied.
func (m mutation) source(t *testing.T, text []byte) []byte {
	t.Helper()
	if n := bytes.Count(text, []byte(m.old)); n != 1 {
		t.Fatalf("%q: what is to be replaced stands %d times in %s: %s", m.rule, n, m.file, m.old)
	}
	return bytes.Replace(text, []byte(m.old), []byte(m.new), 1)
}

// overlay writes the mutated files to a folder, for the -overlay flag of the go command.
func overlay(t *testing.T, some ...mutation) string {
	t.Helper()
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	replaced := map[string]string{}
	for _, m := range some {
		real := filepath.Join(here, m.file)
		at, changed := replaced[real]
		if !changed {
			at = real
		}
		text, err := os.ReadFile(at)
		if err != nil {
			t.Fatal(err)
		}
		replaced[real] = filepath.Join(dir, m.file)
		if err := os.WriteFile(replaced[real], m.source(t, text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	list, err := json.Marshal(map[string]any{"Replace": replaced})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(path, list, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// The text that each mutation replaces occurs once in the filter, and the filter builds with all
// mutations, so the table in docs/release.md describes the current filter.
func TestMutationsOfTheFilterApply(t *testing.T) {
	for _, m := range mutations {
		overlay(t, m)
	}
	var together []mutation
	for _, m := range mutations {
		if !overlaps(m, together) {
			together = append(together, m)
		}
	}
	build := exec.CommandContext(t.Context(), "go", "build", "-overlay", overlay(t, together...),
		".")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// overlaps reports whether a mutation replaces text that another one also replaces.
func overlaps(m mutation, others []mutation) bool {
	for _, o := range others {
		if o.file == m.file &&
			(strings.Contains(o.old, m.old) || strings.Contains(m.old, o.old) ||
				strings.Contains(o.new, m.old)) {
			return true
		}
	}
	return false
}

// adversary is the test that finds the mutations.
const adversary = "TestEHI9NoMarkerOfTheWithheldLeavesAnAdversarialRecord"

// mutationRecords is the number of records after which a mutation counts as not found.
const mutationRecords = "20000"

// rare has larger numbers of records for rules that the adversary exercises in only one of about
// ten thousand records.
var rare = map[string]string{"what is only not ticked keeps no part": "150000"}

// castRecords is the number of records for mutations of cast.go.
const castRecords = "1000"

// cell escapes code for a cell of the table in docs/release.md.
var cell = strings.NewReplacer("|", `\|`, "`", "'")

// chosenMutations returns the mutations that EHI_MUTATIONS selects: all, those whose rule
// matches a regular expression, or a given number, which rotates daily so that all take turns.
func chosenMutations(which string, day int) (some []mutation, err error) {
	if n, err := strconv.Atoi(which); err == nil {
		for i := range min(n, len(mutations)) {
			// spread over the whole table
			some = append(some, mutations[(day+i*len(mutations)/n)%len(mutations)])
		}
		return some, nil
	}
	chosen, err := regexp.Compile(which)
	for _, m := range mutations {
		if which == "all" || err == nil && chosen.MatchString(m.rule) {
			some = append(some, m)
		}
	}
	return some, err
}

// With EHI_MUTATIONS=all, a number, or a regular expression for the names of rules, the filter
// is broken in one way after the other, and the adversary must find each. With EHI_JUDGE=judge
// or oracle, only that one checks.
func TestMutationsOfTheFilterAreFound(t *testing.T) {
	which, judge := os.Getenv("EHI_MUTATIONS"), os.Getenv("EHI_JUDGE")
	if which == "" {
		t.Skip("EHI_MUTATIONS=all takes minutes: run it after a change of the filter")
	}
	some, err := chosenMutations(which, int(time.Now().Unix()/(24*60*60)))
	if err != nil || len(some) == 0 {
		t.Fatalf("no rule is called %s: %v", which, err)
	}
	if judge == "" { // a row that breaks nothing must not be found: this checks that rows can fail
		none := mutation{"none", "doc.go", "package release", "package release // as it was"}
		if after, err := none.found(t, adversary, "300", "both"); err == nil {
			t.Fatalf("a change that breaks nothing is found after %s", after)
		}
	}
	missed := 0
	for _, m := range some {
		by, records := m.by(), cmp.Or(os.Getenv("EHI_RECORDS"), rare[m.rule], mutationRecords)
		switch {
		case judge != "":
			by = adversary
		case by == casts:
			records = castRecords
		}
		after, err := m.found(t, by, records, cmp.Or(judge, "both"))
		if err != nil {
			missed++
			t.Errorf("not found: %s: %v", m.rule, err)
			continue
		}
		t.Logf("| %s | `%s`: `%s` | %s |", m.rule, m.file,
			cell.Replace(strings.Join(strings.Fields(m.new), " ")), after)
	}
	t.Logf("%d of %d mutations found", len(some)-missed, len(some))
}

// foundAfter matches the adversary's report of when it found something.
var foundAfter = regexp.MustCompile(`found after (\d+) records`)

// found breaks the filter and runs the test that must find it. It returns the number of records
// that this took, or the test. Errors: the test does not find it; the broken filter does not
// build.
func (m mutation) found(t *testing.T, by, records, judge string) (after string, err error) {
	t.Helper()
	test := exec.CommandContext(t.Context(), "go", "test", "-vet=off", "-count=1", "-overlay",
		overlay(t, m),
		"-run=^"+by+"$", ".", "-adversary.records="+records, "-adversary.judge="+judge,
		"-rapid.checks="+records, "-rapid.seed=19", "-rapid.nofailfile", "-rapid.shrinktime=0s")
	out, err := test.CombinedOutput()
	switch n := foundAfter.FindSubmatch(out); {
	case err == nil:
		return "", fmt.Errorf("%s passes", by)
	case by == adversary && n != nil:
		return string(n[1]), nil
	case by != adversary && bytes.Contains(out, []byte("--- FAIL: "+by)):
		return "by `" + by + "`", nil
	}
	return "", fmt.Errorf("%w\n%.2000s", err, out)
}

// Each mutation is selected within the expected number of days.
func TestMutationsTakeTurns(t *testing.T) {
	had := map[string]bool{}
	const some = 8
	for day := range len(mutations)/some + 1 {
		chosen, err := chosenMutations(strconv.Itoa(some), 20_000+day)
		if err != nil || len(chosen) != some {
			t.Fatalf("%d chosen, %v", len(chosen), err)
		}
		for _, m := range chosen {
			had[m.rule] = true
		}
	}
	if len(had) != len(mutations) {
		t.Errorf("%d of %d mutations had their turn", len(had), len(mutations))
	}
}
