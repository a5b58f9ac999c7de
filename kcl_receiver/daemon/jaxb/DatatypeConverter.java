package javax.xml.bind;

/**
 * The one method of JAXB that KCL 3.1.3 calls: AggregatorUtil, where it logs a KPL aggregate with a bad table index.
 *
 * <p>JAXB left the JDK with Java 11, and the KCL's jars do not bring it. Without this class, one such aggregate ends in
 * a NoClassDefFoundError: KCL skips the whole page that it came in, delivers what follows, and then stands still.
 *
 * <p>Built for Java 8, from this directory, into ../jaxb.jar:
 *
 * <pre>
 *   javac --release 8 -g:none -d out DatatypeConverter.java
 *   jar --create --file ../jaxb.jar --no-manifest --date=2026-01-01T00:00:00Z -C out .
 * </pre>
 */
public final class DatatypeConverter {
    private DatatypeConverter() {}

    public static String printBase64Binary(byte[] bytes) {
        return java.util.Base64.getEncoder().encodeToString(bytes);
    }
}
