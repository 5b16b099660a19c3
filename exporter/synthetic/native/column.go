package native

import (
	"strconv"

	"ehi-server/exporter/synthetic/outline"
)

// column is a column of a table of patients.
type column struct {
	name, title string
	value
}

// value says how the cells of a column are made, and what the descriptor says about them.
type value struct {
	typ      string // "" is string
	fhir     string // the type of the resource whose ID the cell holds
	system   string // the code system of the cell's codes
	refers   string // the table and field of a foreign key, as table.field
	required bool
	label    bool
	make     func(c *compiler) put
}

// compiler makes the cells of one column.
type compiler struct {
	*schema
	salt uint64
}

// made is a value of cells that need no quotes.
func made(typ string, p put) value {
	return value{typ: typ, make: func(*compiler) put { return p }}
}

// to makes a value a foreign key.
func (v value) to(field string) value { v.refers = field; return v }

// own makes a value the table's own key.
func (v value) own() value { v.refers, v.required = "", true; return v }

// coded says which code system a value is of.
func (v value) coded(system string) value { v.system = system; return v }

// maybe leaves all but one in n cells empty.
func maybe(n int, v value) value {
	of := v.make
	v.required = false
	v.make = func(c *compiler) put {
		full, salt := of(c), c.salt^0x5bd1e995
		return func(dst []byte, r *row) []byte {
			if r.random(salt, n) != 0 {
				return dst
			}
			return full(dst, r)
		}
	}
	return v
}

// linked is the ID of a resource of the patient.
func linked(typ string, n func(r *row) uint32) value {
	v := made("string", func(dst []byte, r *row) []byte { return r.resource(dst, n(r)) })
	v.fhir = typ
	return v
}

// shared is the ID of a shared resource, and the key of its look-up table.
func shared(typ, field string, i func(r *row) int) value {
	v := made("string", func(dst []byte, r *row) []byte {
		return append(dst, r.shared[i(r)][:]...)
	})
	v.fhir, v.refers = typ, field
	return v
}

// Keys.
var (
	patientID = linked("Patient", func(*row) uint32 { return outline.PatientAt }).
			to("patient.patient_id")
	visitID = linked("Encounter", func(r *row) uint32 { return r.visit.First }).
		to("visit.visit_id")
	rowKey = made("integer", func(dst []byte, r *row) []byte {
		return number(dst, r.key(r.n))
	}).own()
	clinicianID = shared("Practitioner", "clinician.clinician_id", func(r *row) int {
		if r.visit == nil {
			return r.Practitioner
		}
		return int(r.visit.Practitioner)
	})
	facilityID = shared("Organization", "facility.facility_id", func(r *row) int {
		if r.visit == nil {
			return r.Organization
		}
		return int(r.visit.Organization)
	})
	siteID = shared("Location", "site.site_id", func(r *row) int { return int(r.visit.Location) })
	drugID = shared("Medication", "drug.drug_id", func(r *row) int {
		return int(r.visit.Medication)
	})
	roleID = shared("PractitionerRole", "care_role.care_role_id", func(r *row) int {
		return r.Role
	})
	line = made("integer", func(dst []byte, r *row) []byte { return number(dst, int64(r.sub+1)) })
)

// parent is the key of the row of another table that n rows of this one belong to.
func parent(field string, n int) value {
	return made("integer", func(dst []byte, r *row) []byte {
		return number(dst, r.key(r.n/n))
	}).own().to(field)
}

// Words.

// word is a text of the outline.
func word(of func(r *row) string) value {
	return made("string", func(dst []byte, r *row) []byte { return append(dst, of(r)...) })
}

// pick is one of some texts.
func pick(list ...string) value { return chosen(list, nil) }

// each is the text of the row's place among those of its visit, problem or document.
func each(list ...string) value {
	return chosen(list, func(r *row) int { return r.sub % len(list) })
}

// chosen is one of some texts; a nil place draws it.
func chosen(list []string, place func(r *row) int) value {
	return value{make: func(c *compiler) put {
		quoted, salt := make([]string, len(list)), c.salt
		for i, text := range list {
			quoted[i] = c.quote(text)
		}
		at := place
		if at == nil {
			at = func(r *row) int { return r.random(salt, len(quoted)) }
		}
		return func(dst []byte, r *row) []byte { return append(dst, quoted[at(r)]...) }
	}}
}

// from is a key of a look-up table.
func from(table string) value { return keyOf(table, nil) }

// eachOf is the key of the look-up table at the row's place.
func eachOf(table string) value { return keyOf(table, func(r *row) int { return r.sub }) }

// keyOf is the key of a look-up table at a place; nil draws it.
func keyOf(table string, place func(r *row) int) value {
	v := value{refers: table, required: true}
	v.make = func(c *compiler) put {
		rows, salt := c.lookup(table).rows, c.salt
		keys := make([]string, len(rows))
		for i := range rows {
			keys[i] = c.quote(rows[i][0])
		}
		if place == nil {
			return func(dst []byte, r *row) []byte {
				return append(dst, keys[r.random(salt, len(keys))]...)
			}
		}
		return func(dst []byte, r *row) []byte {
			return append(dst, keys[place(r)%len(keys)]...)
		}
	}
	return v
}

// concepts is the code or the name of the concept at a place.
func concepts(list []outline.Concept, code bool, place func(r *row) int) value {
	texts := make([]string, len(list))
	for i, c := range list {
		if texts[i] = c.Display; code {
			texts[i] = c.Code
		}
	}
	return chosen(texts, func(r *row) int { return place(r) % len(texts) })
}

// Numbers.

// count is an integer from low to low+spread-1.
func count(low, spread int) value {
	return value{typ: "integer", make: func(c *compiler) put {
		salt := c.salt
		return func(dst []byte, r *row) []byte {
			return number(dst, int64(low+r.random(salt, spread)))
		}
	}}
}

// amount is a number with two decimals, from low to low+spread.
func amount(low, spread int) value {
	return value{typ: "number", make: func(c *compiler) put {
		salt := c.salt
		return func(dst []byte, r *row) []byte {
			n := low*100 + r.random(salt, spread*100)
			dst = append(number(dst, int64(n/100)), '.', '0'+byte(n/10%10), '0'+byte(n%10))
			return dst
		}
	}}
}

// figure is a number of the outline.
func figure(of func(r *row) int64) value {
	return made("integer", func(dst []byte, r *row) []byte { return number(dst, of(r)) })
}

// flag is true in one of n cells.
func flag(n int) value {
	return value{typ: "boolean", make: func(c *compiler) put {
		salt := c.salt
		return func(dst []byte, r *row) []byte {
			return strconv.AppendBool(dst, r.random(salt, n) == 0)
		}
	}}
}

// Times.
var (
	start = made("datetime", func(dst []byte, r *row) []byte { return append(dst, r.start[:]...) })
	end   = made("datetime", func(dst []byte, r *row) []byte { return append(dst, r.end[:]...) })
	date  = made("date", func(dst []byte, r *row) []byte {
		return append(dst, r.start[:dateSize]...)
	})
	born = made("date", func(dst []byte, r *row) []byte {
		return append(dst, r.born[:dateSize]...)
	})
)

// later is a date some days after the start; before it if low is negative.
func later(low, spread int) value {
	return value{typ: "date", make: func(c *compiler) put {
		salt := c.salt
		return func(dst []byte, r *row) []byte {
			var t [instantSize]byte
			instant(&t, r.at+int64(low+r.random(salt, spread))*day)
			return append(dst, t[:dateSize]...)
		}
	}}
}

// minutes is an instant some minutes after the start.
func minutes(low, spread int) value {
	return value{typ: "datetime", make: func(c *compiler) put {
		salt := c.salt
		return func(dst []byte, r *row) []byte {
			var t [instantSize]byte
			instant(&t, r.at+int64(low+r.random(salt, spread))*60)
			return append(dst, t[:]...)
		}
	}}
}
