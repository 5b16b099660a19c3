package fhir

// Members returns the ids of the patients that a Group resource names as active members (https://hl7.org/fhir/R4/group.html), in
// its order.
func Members(group []byte) []string {
	var ids []string
	var c Cursor
	patient, inactive := "", false
	for c.Reset(group); c.Next(); {
		switch {
		case string(c.KeyAt(1)) != "member":
		case c.Depth == 4 && c.IsString() && string(c.Key()) == "reference" && string(c.KeyAt(3)) == "entity":
			if typ, id, ok := Local(c.Text()); ok && string(typ) == "Patient" {
				patient = string(id)
			}
		case c.Depth == 3 && c.Kind == Scalar && string(c.Key()) == "inactive":
			inactive = string(c.Raw()) == "true"
		case c.Depth == 2 && c.Kind == Close:
			if patient != "" && !inactive {
				ids = append(ids, patient)
			}
			patient, inactive = "", false
		}
	}
	return ids
}
