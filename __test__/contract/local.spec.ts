import { contractOf } from './chapters'

contractOf('local')
