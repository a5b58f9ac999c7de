// What KCL's own jars make of properties files: the oracle of test_kcl_reads.py.
//
// Run as `java -cp 'JARS/*' KclReads.java DIRECTORY`. For each file of the directory, in the order of their names, it
// prints one line of JSON: the file's name, and either `dies` with the error that ends the daemon at its start, or
// `reads` with what the daemon works with. The daemon's own classes do all the reading, up to the point at which the
// first request would be sent.

import ch.qos.logback.classic.Level;
import ch.qos.logback.classic.Logger;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.beans.Introspector;
import java.beans.PropertyDescriptor;
import java.lang.reflect.Field;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.slf4j.LoggerFactory;
import software.amazon.awssdk.auth.credentials.AwsCredentials;
import software.amazon.awssdk.auth.credentials.AwsCredentialsProvider;
import software.amazon.awssdk.awscore.AwsServiceClientConfiguration;
import software.amazon.awssdk.core.SdkClient;
import software.amazon.awssdk.services.dynamodb.model.Tag;
import software.amazon.kinesis.common.InitialPositionInStreamExtended;
import software.amazon.kinesis.leases.LeaseManagementConfig;
import software.amazon.kinesis.metrics.MetricsConfig;
import software.amazon.kinesis.multilang.MultiLangDaemonConfig;
import software.amazon.kinesis.multilang.config.MultiLangDaemonConfiguration;
import software.amazon.kinesis.processor.ShardRecordProcessorFactory;
import software.amazon.kinesis.retrieval.RetrievalConfig;
import software.amazon.kinesis.retrieval.RetrievalSpecificConfig;

public class KclReads {
    public static void main(String[] arguments) throws Exception {
        ((Logger) LoggerFactory.getLogger(Logger.ROOT_LOGGER_NAME)).setLevel(Level.OFF);
        ObjectMapper json = new ObjectMapper();
        List<Path> files;
        try (Stream<Path> found = Files.list(Path.of(arguments[0]))) {
            files = found.sorted().collect(Collectors.toList());
        }
        for (Path file : files) {
            Map<String, Object> answer = new TreeMap<>();
            answer.put("file", file.getFileName().toString());
            try {
                answer.put("reads", read(file));
            } catch (Throwable thrown) {
                answer.put("dies", root(thrown).toString());
            }
            System.out.println(json.writeValueAsString(answer));
        }
        System.exit(0);
    }

    private static Throwable root(Throwable thrown) {
        return thrown.getCause() == null || thrown.getCause() == thrown ? thrown : root(thrown.getCause());
    }

    private static Map<String, Object> read(Path file) throws Exception {
        MultiLangDaemonConfig config = new MultiLangDaemonConfig(file.toString());
        Map<String, Object> values = new TreeMap<>();
        MultiLangDaemonConfiguration bean = config.getMultiLangDaemonConfiguration();
        addAll(values, "", bean);
        addAll(values, "fanoutConfig.", bean.getFanoutConfig());
        values.put("maxActiveThreads", poolSize(config));
        Method resolve =
                MultiLangDaemonConfiguration.class.getDeclaredMethod("resolvedConfiguration", ShardRecordProcessorFactory.class);
        resolve.setAccessible(true);
        Object resolved = resolve.invoke(bean, config.getRecordProcessorFactory());
        LeaseManagementConfig leases = (LeaseManagementConfig) field(resolved, "leaseManagementConfig");
        RetrievalConfig retrieval = (RetrievalConfig) field(resolved, "retrievalConfig");
        MetricsConfig metrics = (MetricsConfig) field(resolved, "metricsConfig");
        RetrievalSpecificConfig specific = retrieval.retrievalSpecificConfig();
        values.put("resolved retrieval", specific.getClass().getSimpleName());
        addClient(values, "kinesis", retrieval.kinesisClient());
        addClient(values, "dynamodb", leases.dynamoDBClient());
        addClient(values, "cloudwatch", metrics.cloudWatchClient());
        return values;
    }

    private static void addAll(Map<String, Object> values, String prefix, Object bean) throws Exception {
        for (PropertyDescriptor property : Introspector.getBeanInfo(bean.getClass()).getPropertyDescriptors()) {
            if (property.getReadMethod() != null && property.getWriteMethod() != null
                    || property.getName().equals("initialPositionInStream")) {
                values.put(prefix + property.getName(), plain(invoke(property.getReadMethod(), bean)));
            }
        }
    }

    private static Object invoke(Method getter, Object bean) throws Exception {
        try {
            return getter.invoke(bean);
        } catch (InvocationTargetException failed) {
            return null; // getMetricsEnabledDimensions fails where nothing was set
        }
    }

    private static void addClient(Map<String, Object> values, String name, SdkClient client) {
        AwsServiceClientConfiguration of = (AwsServiceClientConfiguration) client.serviceClientConfiguration();
        values.put(name + " region", of.region().id());
        values.put(name + " endpoint", of.endpointOverride().map(Object::toString).orElse(null));
        values.put(name + " credentials", of.credentialsProvider().toString());
        client.close();
    }

    private static Object plain(Object value) {
        if (value instanceof Duration) {
            return List.of(((Duration) value).getSeconds(), ((Duration) value).getNano());
        }
        if (value instanceof InitialPositionInStreamExtended) {
            InitialPositionInStreamExtended position = (InitialPositionInStreamExtended) value;
            return position.getTimestamp() == null ? null : position.getTimestamp().getTime() / 1000;
        }
        if (value instanceof Collection) {
            return ((Collection<?>) value).stream().map(KclReads::plain).collect(Collectors.toList());
        }
        if (value instanceof Tag) {
            return List.of(((Tag) value).key(), ((Tag) value).value());
        }
        if (value instanceof Double && !Double.isFinite((Double) value)) {
            return value.toString();
        }
        if (value == null || value instanceof Number || value instanceof Boolean || value instanceof String[]) {
            return value;
        }
        return value instanceof Enum ? ((Enum<?>) value).name() : value.toString();
    }

    private static int poolSize(MultiLangDaemonConfig config) {
        return ((java.util.concurrent.ThreadPoolExecutor) config.getExecutorService()).getCorePoolSize();
    }

    private static Object field(Object of, String name) throws Exception {
        Field field = of.getClass().getDeclaredField(name);
        field.setAccessible(true);
        return field.get(of);
    }
}
