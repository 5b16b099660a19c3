import ca.uhn.fhir.context.FhirContext;
import ca.uhn.fhir.context.support.DefaultProfileValidationSupport;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.TreeSet;
import org.hl7.fhir.common.hapi.validation.support.CommonCodeSystemsTerminologyService;
import org.hl7.fhir.common.hapi.validation.support.InMemoryTerminologyServerValidationSupport;
import org.hl7.fhir.common.hapi.validation.support.SnapshotGeneratingValidationSupport;
import org.hl7.fhir.common.hapi.validation.support.ValidationSupportChain;
import org.hl7.fhir.common.hapi.validation.validator.FhirInstanceValidator;

/**
 * HAPI's validator with the R4 definitions of its jars, without network: it judges each line of the
 * NDJSON files of a folder, and prints file, line, severity, place and message of each finding.
 */
public class Validate {
  public static void main(String[] args) throws Exception {
    var context = FhirContext.forR4();
    var known = new ValidationSupportChain(
        new DefaultProfileValidationSupport(context),
        new CommonCodeSystemsTerminologyService(context),
        new InMemoryTerminologyServerValidationSupport(context),
        new SnapshotGeneratingValidationSupport(context));
    var judge = new FhirInstanceValidator(known);
    judge.setAnyExtensionsAllowed(true);
    var validator = context.newValidator().registerValidatorModule(judge);
    int judged = 0;
    try (var files = Files.list(Path.of(args[0]))) {
      for (Path file : new TreeSet<>(files.toList())) {
        int line = 0;
        for (String resource : Files.readAllLines(file)) {
          line++;
          judged++;
          for (var m : validator.validateWithResult(resource).getMessages()) {
            System.out.printf("%s:%d\t%s\t%s\t%s%n", file.getFileName(), line, m.getSeverity(),
                m.getLocationString(), m.getMessage().replace('\n', ' '));
          }
        }
      }
    }
    System.out.println(judged + " resources");
  }
}
