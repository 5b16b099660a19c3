package release

// AboutPaths are the reviewed table of what resources are about.
var AboutPaths = aboutPaths

// WhyPaths are the reviewed table of why they are.
var WhyPaths = whyPaths
