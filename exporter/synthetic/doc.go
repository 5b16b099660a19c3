// Package synthetic generates patients when they are read: plausible, linked FHIR R4 records, by
// default of 300 to 900 resources and about 28 types each, with laboratory results, bills,
// documents and one item of every sensitive category. The same seed and number always give the
// same patient, in whatever order patients are read. Nothing is stored.
//
// Resources are texts with slots (see template). A new resource is mostly a copy of such a text,
// so that the generator is faster than a disk.
//
// Patient k's resources have the ids
//
//	kkkkkkkk-kkkk-4nnn-Vnnn-hhhhhhhhhhhh
//
// where k and n, the resource's number in the record, are hexadecimal (V holds two bits of n),
// and h is a hash. So ids sort as the patients do, the Patient's own (n = 0) tells its k, and no
// directory has to be kept.
package synthetic
